// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bar charts as SVG: a bar a thing, its value beside it.
//!
//! On a light card of its own, so that it can be read on a page of any colour.

use std::fmt::Write;

use super::results::number;

pub(crate) struct Bar<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: f64,
    /// In the colour of this project.
    pub(crate) ours: bool,
}

/// How long the longest bar is.
const LENGTH: f64 = 380.0;
/// For the value beside it.
const VALUE: f64 = 90.0;
/// About as wide as a letter is, in a font that nobody knows here.
pub(crate) const LETTER: f64 = 7.4;
const TOP: f64 = 58.0;
const PITCH: f64 = 30.0;
const BOTTOM: f64 = 34.0;

/// From this ratio between the longest and the shortest on, the axis is logarithmic.
const WIDE: f64 = 30.0;

/// Draws `bars` under a title, with an axis that begins at zero, or at a power of ten. The unit is
/// its name and its symbol.
pub(crate) fn draw(title: &str, unit: (&str, &str), bars: &[Bar<'_>]) -> String {
    let largest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let smallest = bars.iter().map(|bar| bar.value).fold(largest, f64::min);
    let longest = bars
        .iter()
        .map(|bar| bar.name.chars().map(|_| LETTER).sum());
    let left = 24.0 + longest.fold(0.0, f64::max);
    let width = left + LENGTH + VALUE;
    let axis = Axis::new(smallest, largest);
    let bottom = bars.iter().fold(TOP, |bottom, _| bottom + PITCH);
    let height = bottom + BOTTOM;
    let kind = axis.kind();

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height}\" \
         width=\"{width:.0}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" fill=\"#1f2328\">\n\
         <rect width=\"{width:.0}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n\
         <text x=\"16\" y=\"45\" fill=\"#59636e\">{unit}, {kind}; less is better</text>\n",
        title = escape(title),
        unit = escape(unit.0),
    );
    for tick in axis.ticks() {
        let x = left + axis.place(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#d1d9e0\"/>\
             <text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#59636e\">{tick}</text>",
            y = bottom + 18.0,
            tick = label(tick),
        );
    }
    let mut y = TOP;
    for bar in bars {
        let length = axis.place(bar.value).max(1.0);
        let _ = writeln!(
            svg,
            "<text x=\"{name_x:.1}\" y=\"{text_y}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{left:.1}\" y=\"{bar_y}\" width=\"{length:.1}\" height=\"18\" rx=\"2\" fill=\"{color}\"/>\
             <text x=\"{value_x:.1}\" y=\"{text_y}\">{value}</text>",
            name_x = left - 8.0,
            text_y = y + 19.0,
            bar_y = y + 6.0,
            color = if bar.ours { "#0969da" } else { "#8c959f" },
            value_x = left + length + 6.0,
            value = format_args!("{} {}", number(bar.value), escape(unit.1)),
            name = escape(bar.name),
        );
        y += PITCH;
    }
    svg.push_str("</svg>\n");
    svg
}

/// What a length stands for.
pub(crate) struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
    length: f64,
}

impl Axis {
    fn new(smallest: f64, largest: f64) -> Self {
        if smallest > 0.0 && largest / smallest >= WIDE {
            let from = 10_f64.powf(smallest.log10().floor());
            return Self {
                // A bar has a length also where the value is the power of ten.
                from: if smallest / from < 1.5 {
                    from / 10.0
                } else {
                    from
                },
                to: largest,
                logarithmic: true,
                length: LENGTH,
            };
        }
        Self::from_zero(largest, LENGTH)
    }

    pub(crate) fn from_zero(largest: f64, length: f64) -> Self {
        Self {
            from: 0.0,
            to: if largest > 0.0 { largest } else { 1.0 },
            logarithmic: false,
            length,
        }
    }

    fn kind(&self) -> &'static str {
        if self.logarithmic {
            "on a logarithmic scale"
        } else {
            "from zero"
        }
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.from).log10() / (self.to / self.from).log10()
        } else {
            value / self.to
        };
        share.clamp(0.0, 1.0) * self.length
    }

    pub(crate) fn ticks(&self) -> Vec<f64> {
        let mut ticks = vec![self.from];
        let step = 10_f64.powf((self.to / 2.0).log10().floor());
        // Two to twenty times the step make the axis.
        let step = if self.to / step > 10.0 {
            step * 5.0
        } else {
            step
        };
        let mut tick = self.from;
        loop {
            tick = if self.logarithmic {
                tick * 10.0
            } else {
                tick + step
            };
            if tick > self.to * 1.000_001 {
                return ticks;
            }
            ticks.push(tick);
        }
    }
}

/// A round number: no more digits than it has.
pub(crate) fn label(tick: f64) -> String {
    let text = format!("{tick:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64) -> Bar<'static> {
        Bar {
            name: "Vec<u8> & more",
            value,
            ours: true,
        }
    }

    #[test]
    fn what_is_far_apart_is_drawn_on_a_logarithmic_scale() {
        assert!(draw("t", ("times", "ns"), &[bar(0.3), bar(190.0)]).contains("logarithmic"));
        assert!(draw("t", ("times", "ns"), &[bar(8.0), bar(10.0)]).contains("from zero"));
    }

    #[test]
    fn names_are_escaped() {
        let svg = draw("t", ("times", "ns"), &[bar(1.0)]);
        assert!(svg.contains("Vec&lt;u8&gt; &amp; more"));
    }

    #[test]
    fn every_bar_ends_on_the_axis() {
        for (smallest, largest) in [(0.3, 190.0), (8.0, 10.0), (0.0, 0.0), (0.001, 1.0)] {
            let axis = Axis::new(smallest, largest);
            for value in axis.ticks().into_iter().chain([smallest, largest]) {
                assert!((0.0..=LENGTH).contains(&axis.place(value)), "{value}");
            }
            assert!(axis.ticks().len() <= 12);
        }
    }
}
