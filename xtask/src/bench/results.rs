// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benches wrote: bounds and facts, a JSON object a line, and criterion's own files.

use std::path::Path;

use serde_json::Value;

use crate::command;
use crate::error::{Context, Error, Result};

/// One run of all benches.
pub(crate) struct Results {
    pub(crate) bounds: Vec<Bound>,
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) times: Vec<Time>,
    pub(crate) curves: Vec<Curve>,
}

/// A measured value, and what it may be.
#[derive(Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) name: String,
    /// In words, if there is one.
    pub(crate) limit: Option<String>,
    pub(crate) unit: String,
    pub(crate) measured: f64,
    pub(crate) interval: Option<(f64, f64)>,
    pub(crate) kept: bool,
}

/// A value by how many there are.
#[derive(Debug, PartialEq)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// What none of the values may exceed.
    pub(crate) limit: Option<f64>,
    pub(crate) series: Vec<Series>,
}

/// One line of a curve's chart.
#[derive(Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) at: f64,
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

/// How long something took, as criterion or a bench in Python estimates it, in nanoseconds.
pub(crate) struct Time {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) interval: (f64, f64),
}

impl Bound {
    pub(crate) fn sentence(&self) -> String {
        let measured = exact(self.measured);
        let limit = self.limit.as_deref().unwrap_or("no bound");
        format!("{measured} {}, {limit}", self.unit)
    }
}

impl Results {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut results = Self {
            bounds: Vec::new(),
            facts: Vec::new(),
            times: Vec::new(),
            curves: Vec::new(),
        };
        // In the order in which it was measured, which is that of the benches.
        let mut files = command::files(folder)?;
        files.sort_by_cached_key(|file| file.metadata().and_then(|file| file.modified()).ok());
        for file in files {
            if file
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                results.bounds.extend(Self::bounds_of(&file)?);
                let lines = lines(&file)?;
                results.facts.extend(facts(&lines)?);
                results.times.extend(times(&lines)?);
                results.curves.extend(curves(&lines)?);
            } else if file.ends_with("new/benchmark.json") {
                results.times.push(Time::read(&file)?);
            }
        }
        if results.bounds.is_empty() || results.times.is_empty() {
            return Err(Error::new(format!(
                "{} holds no results: run `cargo xtask bench`",
                folder.display()
            )));
        }
        Ok(results)
    }

    /// The bounds that one bench reported. None, if it did not get so far as to write its file.
    pub(crate) fn bounds_of(file: &Path) -> Result<Vec<Bound>> {
        if !file.exists() {
            return Ok(Vec::new());
        }
        let lines = lines(file)?;
        let bounds = lines.iter().filter(|line| line.get("bound").is_some());
        bounds
            .map(|line| Bound::new(line).context(|| format!("{}: {line}", file.display())))
            .collect()
    }
}

impl Bound {
    /// For a path that has one.
    pub(crate) fn of_instructions(path: &(String, u64, Option<u64>)) -> Option<Self> {
        let (name, count, bound) = path;
        let bound = (*bound)?;
        Some(Self {
            name: format!("instructions of `{name}`"),
            limit: Some(format!("at most {bound} instructions")),
            unit: "instructions".into(),
            measured: u32::try_from(*count).map_or(f64::NAN, f64::from),
            interval: None,
            kept: *count <= bound,
        })
    }

    fn new(line: &Value) -> Option<Self> {
        Some(Self {
            name: text(line, "bound")?,
            limit: text(line, "limit"),
            unit: text(line, "unit")?,
            // Not a number is written as null, and keeps no bound.
            measured: line.get("measured")?.as_f64().unwrap_or(f64::NAN),
            interval: interval(line)?,
            kept: line.get("kept")?.as_bool()?,
        })
    }
}

impl Time {
    /// From criterion's description of a benchmark; the estimates are beside it.
    fn read(file: &Path) -> Result<Self> {
        let benchmark = json(file)?;
        let estimates = json(&file.with_file_name("estimates.json"))?;
        let time = || {
            let median = estimates.get("median")?;
            let interval = median.get("confidence_interval")?;
            // Criterion's estimates are of one iteration, which may be many of what is measured.
            let elements = benchmark.pointer("/throughput/Elements");
            let elements = elements.and_then(Value::as_f64).unwrap_or(1.0);
            let of = |value: Option<&Value>| Some(value?.as_f64()? / elements);
            Some(Self {
                group: text(&benchmark, "group_id")?,
                name: text(&benchmark, "function_id")?,
                median: of(median.get("point_estimate"))?,
                interval: (
                    of(interval.get("lower_bound"))?,
                    of(interval.get("upper_bound"))?,
                ),
            })
        };
        time().context(|| format!("{} is not as criterion writes it", file.display()))
    }
}

/// As many digits as tell on which side of a bound a value is.
pub(crate) fn exact(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 9.9995 {
        format!("{value:.3}")
    } else {
        number(value)
    }
}

/// Three digits that count, as a person reads them.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 || size.fract() == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn facts(lines: &[Value]) -> Result<Vec<(String, String)>> {
    let facts = lines.iter().filter(|line| line.get("fact").is_some());
    facts
        .map(|line| {
            let fact = || Some((text(line, "fact")?, text(line, "value")?));
            fact().context(|| format!("not a fact: {line}"))
        })
        .collect()
}

/// Those of benches that criterion knows nothing of.
fn times(lines: &[Value]) -> Result<Vec<Time>> {
    let read = |line| {
        Some(Time {
            group: text(line, "group")?,
            name: text(line, "time")?,
            median: line_number(line, "median")?,
            interval: interval(line)??,
        })
    };
    let times = lines.iter().filter(|line| line.get("time").is_some());
    times
        .map(|line| read(line).context(|| format!("not a time: {line}")))
        .collect()
}

/// Those that a bench has written: line by line, and point by point.
fn curves(lines: &[Value]) -> Result<Vec<Curve>> {
    struct Written {
        curve: String,
        series: String,
        limit: Option<f64>,
        point: Point,
    }
    let read = |line| {
        let point = Point {
            at: line_number(line, "at")?,
            value: line_number(line, "measured")?,
            interval: interval(line)?,
        };
        Some(Written {
            curve: text(line, "curve")?,
            series: text(line, "series")?,
            limit: line_number(line, "limit"),
            point,
        })
    };
    let points = lines.iter().filter(|line| line.get("curve").is_some());
    let points = points
        .map(|line| read(line).context(|| format!("not a point of a curve: {line}")))
        .collect::<Result<Vec<_>>>()?;
    let series = |points: &[Written]| {
        Some(Series {
            name: points.first()?.series.clone(),
            points: points.iter().map(|written| written.point).collect(),
        })
    };
    let curve = |points: &[Written]| {
        let first = points.first()?;
        let lines = points.chunk_by(|a, b| a.series == b.series);
        Some(Curve {
            name: first.curve.clone(),
            limit: first.limit,
            series: lines.filter_map(series).collect(),
        })
    };
    let curves = points.chunk_by(|a, b| a.curve == b.curve);
    Ok(curves.filter_map(curve).collect())
}

fn line_number(line: &Value, key: &str) -> Option<f64> {
    line.get(key)?.as_f64()
}

/// None for what was measured once; the outer one for what is none.
fn interval(line: &Value) -> Option<Option<(f64, f64)>> {
    match line.get("interval")? {
        Value::Null => Some(None),
        interval => Some(Some((
            interval.get(0)?.as_f64()?,
            interval.get(1)?.as_f64()?,
        ))),
    }
}

fn lines(file: &Path) -> Result<Vec<Value>> {
    let text = read(file)?;
    let parse = |line| serde_json::from_str(line).context(|| format!("{}", file.display()));
    text.lines().map(parse).collect()
}

fn json(file: &Path) -> Result<Value> {
    serde_json::from_str(&read(file)?).context(|| format!("{}", file.display()))
}

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key)?.as_str().map(str::to_owned)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.2904, "0.290"),
            (0.999_6, "1.00"),
            (3.4609, "3.46"),
            (40.23, "40.2"),
            (191.14, "191"),
            (6_543.2, "6543"),
            (-0.012, "-0.012"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn what_is_no_number_keeps_no_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        let line = r#"{"bound":"b","limit":"at most 1 times","unit":"times","measured":null,"interval":null,"kept":false}"#;
        std::fs::write(&file, line).unwrap();
        let bounds = Results::bounds_of(&file).unwrap();
        assert!(bounds[0].measured.is_nan());
        assert!(!bounds[0].kept);
    }

    #[test]
    fn points_make_curves() {
        let line = |text: &str| serde_json::from_str(text).unwrap();
        let lines = [
            line(
                r#"{"curve":"a","series":"s","at":100,"measured":2.5,"interval":[2,3],"limit":20}"#,
            ),
            line(r#"{"fact":"f","value":"v"}"#),
            line(r#"{"curve":"a","series":"s","at":1000,"measured":3,"interval":null,"limit":20}"#),
            line(r#"{"curve":"a","series":"t","at":100,"measured":1,"interval":null,"limit":20}"#),
            line(r#"{"curve":"b","series":"s","at":1,"measured":1,"interval":null,"limit":null}"#),
        ];
        let curves = curves(&lines).unwrap();
        assert_eq!(curves.len(), 2);
        assert_eq!((curves[0].limit, curves[1].limit), (Some(20.0), None));
        let series = &curves[0].series;
        let names: Vec<_> = series.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["s", "t"]);
        let points: Vec<_> = series[0]
            .points
            .iter()
            .map(|it| (it.at, it.interval))
            .collect();
        assert_eq!(points, [(100.0, Some((2.0, 3.0))), (1_000.0, None)]);
        assert!(super::curves(&[line(r#"{"curve":"a"}"#)]).is_err());
    }

    #[test]
    fn times_of_other_benches_are_read() {
        let line = |text: &str| serde_json::from_str(text).unwrap();
        let whole = line(r#"{"time":"ours","group":"load","median":14.9,"interval":[14.5,15.25]}"#);
        let times = super::times(&[line(r#"{"fact":"f","value":"v"}"#), whole]).unwrap();
        assert_eq!(
            (times[0].group.as_str(), times[0].name.as_str()),
            ("load", "ours")
        );
        assert_eq!((times[0].median, times[0].interval), (14.9, (14.5, 15.25)));
        let half = line(r#"{"time":"ours","group":"load","median":null,"interval":[1,2]}"#);
        assert!(super::times(&[half]).is_err());
    }

    #[test]
    fn half_a_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        std::fs::write(&file, r#"{"bound":"b"}"#).unwrap();
        assert!(Results::bounds_of(&file).is_err());
    }
}
