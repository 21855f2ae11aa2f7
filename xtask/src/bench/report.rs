// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page on what was measured.

use std::fmt::Write;
use std::path::Path;

use super::chart::{self, Bar};
use super::curve::{self, Labels};
use super::machine;
use super::results::{Curve, Results, Time, exact, number};
use crate::command;
use crate::error::{Context, Result};

/// What is said of a group of benchmarks.
#[derive(Clone)]
struct Section<'a> {
    group: &'a str,
    title: &'a str,
    text: &'a str,
}

/// The order of the groups. One that is not here comes last, under its own name.
const SECTIONS: &[Section<'static>] = &[
    Section {
        group: "read the generation",
        title: "Reading the generation",
        text: "A bare volatile load of the mapped counter is the least that a program can do. In a\n\
               loop, as here, what takes less than a cycle hides in it: the bounds above are of 32 in a\n\
               row. AWS-LC looks at the same page; it asks for the generations of the system and of the\n\
               process (after a fork) before each draw of random bytes.",
    },
    Section {
        group: "use a value",
        title: "Using a guarded value",
        text: "The value is a number in memory, and its use is to load it. `get` checks before the use,\n\
               `with` also after it. Without more words the witness is the whole process: two counters\n\
               of the system, and forks.",
    },
    Section {
        group: "use a value in two threads",
        title: "Using one value in two threads",
        text: "The time of one use in each of two threads that do nothing else. Readers of a\n\
               `SharedGuarded` write to no memory that they have in common; those of a lock do.",
    },
    Section {
        group: "use a value under change",
        title: "Using a guarded value under change",
        text: "Another thread changes the counter all the time, and the value is rebuilt for each\n\
               change that is seen. A system is restored less often.",
    },
    Section {
        group: "draw 16 random bytes",
        title: "Drawing 16 random bytes",
        text: "`rand::rng` knows neither of restores nor of forks. The others do; getrandom(2) asks the\n\
               kernel, which does. Where no source shows restores, so does each draw of `sysgenid::rng`.\n\
               The vDSO's getrandom is the kernel's generator in the memory of the process: it looks at\n\
               each draw whether the kernel has reseeded. glibc calls it from 2.41 on.",
    },
    Section {
        group: "draw other sizes",
        title: "Drawing other sizes",
        text: "",
    },
    Section {
        group: "acknowledge",
        title: "Acknowledging a change",
        text: "To the userspace driver, which runs in the same process here, and nobody waits for the\n\
               others. A write and a read of an eventfd are the least that two processes can say to\n\
               each other.",
    },
    Section {
        group: "wake a task",
        title: "Waking a task",
        text: "From the change of the counter in the mapped page to the task that awaits it. The eventfd\n\
               has a server of the same shape as the userspace driver: it takes the same request from a\n\
               socket, stores a counter in a page, writes the eventfd and answers. In both, who asks for\n\
               the change looks at the page all the time, on a processor of its own; the server and the\n\
               runtime share another. Most of the time is the switch from the one to the other. Here a\n\
               sample is a few changes, with a pause before each that is not counted.",
    },
    Section {
        group: "ask for a change and wake a task",
        title: "Asking for a change and waking a task",
        text: "The same, from the request on: the server, too, has to be woken, on a processor that was\n\
               asleep.",
    },
    Section {
        group: "read the generation in Python",
        title: "Reading the generation in Python",
        text: "One look, without a loop around it. The best that Python has for a counter in memory is a\n\
               view of a mapping. The times in Python are medians of 101 rounds, in which everything\n\
               that is compared takes turns.",
    },
    Section {
        group: "draw a random number in Python",
        title: "Drawing a random number in Python",
        text: "",
    },
    Section {
        group: "wake a task in Python",
        title: "Waking a task in Python",
        text: "As above, with loops that are processes of their own, and an eventfd that the loop watches\n\
               by `add_reader`.",
    },
];

const MANY: &str = "\
From the request for a change until the orchestrator is released, who waits until all have
acknowledged it, divided by their number. The userspace driver is a process of its own, and so are
those that watch: each a runtime of one thread, with a task for each watcher. If a watcher cost the
more the more others there are, the lines would rise without end.

Changes are rare, so in the first line everybody is at rest before each, and the processors' caches
are filled with something else. In the second, one change follows the other, and the caches hold what
belongs to few watchers, but not to many.
";

const HEAD: &str = "\
# Benchmarks

<!-- Written by `cargo xtask bench`: change that, not this. -->

What the SDK costs, beside what it is compared with, from one run of

```text
cargo xtask bench
```

which measures everything side by side, writes this page, and fails if a bound is broken.

**How a bound is measured.** Machines are noisy, so a time says little about the next run. What is
bounded is a ratio or a difference. Its two sides take turns within one run, 101 rounds, and change
who begins. Each round is compared on its own, and the median of the rounds counts. Beside it stands
the interval that holds the true median with a confidence of 95 %, from the order of the rounds
alone. Three times are bounded themselves. That of a change for each of many watchers is the median
of 101 changes, where it is longest. Of a client that sends as many requests as it can, they are the
broker's processor time, which is the median of five bursts, and the longest time that the broker's
owner waits for an answer.

**How a time is measured.** By criterion: the median of 100 samples, of as many iterations each as
take 20 ms, and the interval with a confidence of 95 % that criterion gets by resampling. One
iteration is a call and the use of its result, in a loop.
";

const INSTRUCTIONS: &str = "
## Instructions

Exact numbers, not times: what callgrind counts in one use on x86_64, the call and the return left
out. `cargo xtask test` compares them with the table `fastpath/table.txt`. It also looks at the
machine code: a fast path calls nothing but functions for a first use, a change or an error, so it
cannot panic or allocate. And it has each taken a million times, without an allocation.

| path | instructions |
|---|---:|
";

pub(crate) fn write(
    results: &Results,
    instructions: &[(String, u64, Option<u64>)],
    book: &Path,
) -> Result<()> {
    let charts = book.join("benchmarks");
    command::fresh_dir(&charts)?;

    let mut page = HEAD.to_owned();
    page.push_str("\n## Measured on\n\n|  |  |\n|---|---|\n");
    for (name, value) in machine::describe()? {
        line(&mut page, &format!("| {name} | {value} |"));
    }
    for (name, value) in &results.facts {
        line(&mut page, &format!("| {name} | {value} |"));
    }

    page.push_str("\n## Bounds\n\n");
    page.push_str("| what | bound | measured | interval | kept |\n|---|---|---:|---:|---|\n");
    for bound in &results.bounds {
        let kept = match &bound.limit {
            Some(_) if bound.kept => "yes",
            Some(_) => "**no**",
            None => "",
        };
        line(
            &mut page,
            &format!(
                "| {} | {} | {} {} | {} | {kept} |",
                bound.name,
                bound.limit.as_deref().unwrap_or("none"),
                exact(bound.measured),
                bound.unit,
                interval(bound.interval, exact),
            ),
        );
    }

    for section in sections(results) {
        let times: Vec<_> = of_group(results, section.group).collect();
        let name = format!("{}.svg", section.group.replace([' ', '/'], "-"));
        let unit = Unit::of(&times);
        let bars: Vec<_> = times.iter().map(|time| bar(time, &unit)).collect();
        let svg = chart::draw(section.title, (unit.name, unit.symbol), &bars);
        let path = charts.join(&name);
        std::fs::write(&path, svg).context(|| format!("cannot write {}", path.display()))?;

        line(&mut page, &format!("\n## {}\n", section.title));
        if !section.text.is_empty() {
            line(&mut page, &format!("{}\n", section.text));
        }
        line(
            &mut page,
            &format!(
                "![{}]({})\n",
                section.title,
                format_args!("benchmarks/{name}")
            ),
        );
        page.push_str("|  | median | interval |\n|---|---:|---:|\n");
        for time in times {
            line(
                &mut page,
                &format!(
                    "| {} | {} {} | {} |",
                    time.name,
                    number(time.median / unit.nanoseconds),
                    unit.symbol,
                    interval(Some(time.interval), |time| number(time / unit.nanoseconds))
                ),
            );
        }
    }
    for curve in &results.curves {
        add_curve(&mut page, curve, &charts)?;
    }
    page.push_str(INSTRUCTIONS);
    for (name, count, _) in instructions {
        line(&mut page, &format!("| `{name}` | {count} |"));
    }
    let path = book.join("benchmarks.md");
    std::fs::write(&path, page).context(|| format!("cannot write {}", path.display()))
}

/// Values by how many there are: one of them has words so far.
fn add_curve(page: &mut String, curve: &Curve, charts: &Path) -> Result<()> {
    let (labels, text) = match curve.name.as_str() {
        "many watchers" => (
            Labels {
                title: "A change that many acknowledge",
                across: "async watchers",
                up: "microseconds for each watcher",
                unit: "µs",
            },
            MANY,
        ),
        name => (
            Labels {
                title: name,
                across: "how many",
                up: "for each",
                unit: "",
            },
            "",
        ),
    };
    let file = format!("{}.svg", curve.name.replace([' ', '/'], "-"));
    let svg = curve::draw(&labels, curve);
    let path = charts.join(&file);
    std::fs::write(&path, svg).context(|| format!("cannot write {}", path.display()))?;
    line(page, &format!("\n## {}\n\n{text}", labels.title));
    line(page, &format!("![{}](benchmarks/{file})\n", labels.title));
    line(
        page,
        &format!("|  | {} | for each | interval | for all |", labels.across),
    );
    page.push_str("|---|---:|---:|---:|---:|\n");
    for series in &curve.series {
        for point in &series.points {
            line(
                page,
                &format!(
                    "| {} | {} | {} {unit} | {} | {} {unit} |",
                    series.name,
                    point.at,
                    number(point.value),
                    interval(point.interval, number),
                    number(point.value * point.at),
                    unit = labels.unit,
                ),
            );
        }
    }
    Ok(())
}

/// The groups that were measured: those with a text, and then the others.
fn sections(results: &Results) -> Vec<Section<'_>> {
    let is = |group| move |section: &Section<'_>| section.group == group;
    let mut sections = SECTIONS.to_vec();
    sections.retain(|section| of_group(results, section.group).next().is_some());
    for time in &results.times {
        let group = time.group.as_str();
        if !sections.iter().any(is(group)) {
            sections.push(Section {
                group,
                title: group,
                text: "",
            });
        }
    }
    sections
}

fn of_group<'a>(results: &'a Results, group: &str) -> impl Iterator<Item = &'a Time> {
    let times = results.times.iter();
    times.filter(move |time| time.group == group)
}

/// In what the times of a group are read best.
struct Unit {
    name: &'static str,
    symbol: &'static str,
    nanoseconds: f64,
}

impl Unit {
    fn of(times: &[&Time]) -> Self {
        if times.iter().all(|time| time.median >= 1_000.0) {
            return Self {
                name: "microseconds",
                symbol: "µs",
                nanoseconds: 1_000.0,
            };
        }
        Self {
            name: "nanoseconds",
            symbol: "ns",
            nanoseconds: 1.0,
        }
    }
}

fn bar<'a>(time: &'a Time, unit: &Unit) -> Bar<'a> {
    Bar {
        name: &time.name,
        value: time.median / unit.nanoseconds,
        ours: time.name.starts_with("sysgenid"),
    }
}

fn interval(interval: Option<(f64, f64)>, digits: impl Fn(f64) -> String) -> String {
    match interval {
        Some((low, high)) => format!("{} to {}", digits(low), digits(high)),
        None => "once".into(),
    }
}

fn line(page: &mut String, text: &str) {
    let _ = writeln!(page, "{text}");
}
