// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A line chart as SVG: what something takes, by how many there are of it. One line or two.

use std::fmt::Write;

use super::chart::{Axis, LETTER, escape, label};
use super::results::{Curve, Point, number};

pub(crate) struct Labels<'a> {
    pub(crate) title: &'a str,
    /// What is counted, and what is measured with its unit.
    pub(crate) across: &'a str,
    pub(crate) up: &'a str,
    pub(crate) unit: &'a str,
}

const LEFT: f64 = 56.0;
const WIDTH: f64 = 560.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 220.0;
const BOTTOM: f64 = 52.0;

/// The colour of a line, and where its values stand: above it or below.
const STYLES: [(&str, f64); 2] = [("#0969da", -9.0), ("#8c959f", 18.0)];

/// Draws a curve's lines under a title, and its limit as a line as well: numbers on a logarithmic
/// scale to the right, values from zero up.
pub(crate) fn draw(labels: &Labels<'_>, curve: &Curve) -> String {
    let limit = curve.limit;
    let points = || curve.series.iter().flat_map(|series| &series.points);
    let highest = points().map(|point| point.interval.map_or(point.value, |it| it.1));
    let axis = Axis::from_zero(highest.chain(limit).fold(0.0, f64::max) * 1.05, HEIGHT);
    let first = points().map(|point| point.at).fold(f64::MAX, f64::min);
    let last = points().map(|point| point.at).fold(first, f64::max);
    let x = |at: f64| {
        let share = (at / first).log10() / (last / first).log10();
        // One point alone is no line, and stands at its beginning.
        LEFT + 24.0 + if share.is_finite() { share } else { 0.0 } * (WIDTH - 48.0)
    };
    let y = |value: f64| TOP + HEIGHT - axis.place(value);
    let (width, height) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#1f2328\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n\
         <text x=\"16\" y=\"45\" fill=\"#59636e\">{up}, from zero; less is better</text>\n\
         <text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\" fill=\"#59636e\">{across}, on a \
         logarithmic scale</text>\n",
        title = escape(labels.title),
        up = escape(labels.up),
        across = escape(labels.across),
        middle = LEFT + WIDTH / 2.0,
        below = height - 12.0,
    );
    for tick in axis.ticks() {
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#d1d9e0\"/>\
             <text x=\"{x}\" y=\"{text:.1}\" text-anchor=\"end\" fill=\"#59636e\">{tick}</text>",
            y = y(tick),
            x = LEFT - 8.0,
            text = y(tick) + 4.0,
            tick = label(tick),
        );
    }
    if let Some(limit) = limit {
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}h{WIDTH}\" stroke=\"#bc4c00\" stroke-dasharray=\"6 4\"/>\
             <text x=\"{right}\" y=\"{text:.1}\" text-anchor=\"end\" fill=\"#bc4c00\">\
             at most {limit} {unit}</text>",
            y = y(limit),
            right = LEFT + WIDTH,
            text = y(limit) - 6.0,
            unit = escape(labels.unit),
        );
    }
    let mut key = LEFT + WIDTH * 0.55;
    for (series, (color, away)) in curve.series.iter().zip(STYLES.into_iter().cycle()) {
        let place = |point: &Point| (x(point.at), y(point.value));
        let line: Vec<_> = series
            .points
            .iter()
            .map(|point| format!("{:.1} {:.1}", place(point).0, place(point).1))
            .collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{line}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <circle cx=\"{key:.1}\" cy=\"22\" r=\"4\" fill=\"{color}\"/>\
             <text x=\"{word:.1}\" y=\"26\">{name}</text>",
            line = line.join("L"),
            word = key + 10.0,
            name = escape(&series.name),
        );
        key += series.name.chars().map(|_| LETTER).sum::<f64>() + 40.0;
        for point in &series.points {
            let (x, y_value) = place(point);
            if let Some((low, high)) = point.interval {
                let _ = writeln!(
                    svg,
                    "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{color}\"/>",
                    low = y(low),
                    high = y(high),
                );
            }
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y_value:.1}\" r=\"4\" fill=\"{color}\"/>\
                 <text x=\"{x:.1}\" y=\"{beside:.1}\" text-anchor=\"middle\">{value}</text>\
                 <text x=\"{x:.1}\" y=\"{foot}\" text-anchor=\"middle\" fill=\"#59636e\">{at}</text>",
                beside = y_value + away,
                value = number(point.value),
                foot = TOP + HEIGHT + 18.0,
                at = label(point.at),
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::super::results::Series;
    use super::*;

    const LABELS: Labels<'static> = Labels {
        title: "t",
        across: "a & b",
        up: "µs",
        unit: "µs",
    };

    fn point(at: f64, value: f64) -> Point {
        Point {
            at,
            value,
            interval: Some((value * 0.9, value * 1.1)),
        }
    }

    fn curve(limit: Option<f64>, lines: &[&[Point]]) -> Curve {
        let series = lines.iter().map(|points| Series {
            name: "a < b".into(),
            points: points.to_vec(),
        });
        Curve {
            name: "c".into(),
            limit,
            series: series.collect(),
        }
    }

    #[test]
    fn everything_is_within_the_card() {
        let points = [
            point(100.0, 2.0),
            point(1_000.0, 21.0),
            point(10_000.0, 5.0),
        ];
        for curve in [
            curve(Some(20.0), &[&points, &points[..2]]),
            curve(None, &[&points[..1]]),
            curve(None, &[&[]]),
            curve(None, &[]),
        ] {
            let svg = draw(&LABELS, &curve);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for number in svg.split(" y=\"").skip(1) {
                let y: f64 = number.split('"').next().unwrap().parse().unwrap();
                assert!((0.0..=TOP + HEIGHT + BOTTOM).contains(&y), "{y}");
            }
        }
    }

    #[test]
    fn a_limit_is_a_line_and_words_are_escaped() {
        let points = [point(1.0, 2.0)];
        let svg = draw(&LABELS, &curve(Some(20.0), &[&points]));
        assert!(svg.contains("at most 20 µs"));
        assert!(svg.contains("a &amp; b") && svg.contains("a &lt; b"));
        assert!(!draw(&LABELS, &curve(None, &[&points])).contains("at most"));
    }
}
