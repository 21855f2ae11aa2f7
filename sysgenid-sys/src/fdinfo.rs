// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The state of a watcher, as `/proc/PID/fdinfo/N` tells it of the descriptor `N`.
//!
//! This project's kernel driver adds three lines to the file. Other drivers add none.

/// What the lines say of a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatcherState {
    /// The generation that it has acknowledged, or that was current when it was opened. A watcher
    /// can be outdated although this is the current one: it wraps.
    pub acknowledged: u32,
    /// Whether waiting for watchers waits for it.
    pub tracked: bool,
    /// Whether a change came that it has not acknowledged.
    pub outdated: bool,
}

impl WatcherState {
    /// Reads the text of an fdinfo file. `None` if it is not a watcher's, or of a driver that does
    /// not tell.
    ///
    /// ```
    /// use sysgenid_sys::fdinfo::WatcherState;
    ///
    /// let text = b"pos:\t0\nsysgenid-acked:\t7\nsysgenid-tracked:\t1\nsysgenid-outdated:\t0\n";
    /// let state = WatcherState::parse(text).unwrap();
    /// assert_eq!(state.acknowledged, 7);
    /// assert!(state.tracked && !state.outdated);
    /// assert_eq!(WatcherState::parse(b"pos:\t0\n"), None);
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(Self {
            acknowledged: number(text, b"sysgenid-acked:\t")?,
            tracked: flag(text, b"sysgenid-tracked:\t")?,
            outdated: flag(text, b"sysgenid-outdated:\t")?,
        })
    }
}

/// The number on the only line that begins with `name`.
fn number(text: &[u8], name: &[u8]) -> Option<u32> {
    let mut values = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(name));
    let value = values
        .next()
        .filter(|value| value.iter().all(u8::is_ascii_digit))?;
    if values.next().is_some() {
        return None;
    }
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn flag(text: &[u8], name: &[u8]) -> Option<bool> {
    match number(text, name)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::WatcherState;

    fn parse(acked: &str, tracked: &str, outdated: &str) -> Option<WatcherState> {
        WatcherState::parse(
            format!(
                "pos:\t0\nflags:\t02104002\nmnt_id:\t25\nsysgenid-acked:\t{acked}\n\
                 sysgenid-tracked:\t{tracked}\nsysgenid-outdated:\t{outdated}\n"
            )
            .as_bytes(),
        )
    }

    #[test]
    fn every_state_is_read() {
        for acknowledged in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            for (tracked, outdated) in [(false, false), (false, true), (true, false), (true, true)]
            {
                let [one, other] = [tracked, outdated].map(|flag| u8::from(flag).to_string());
                let expected = WatcherState {
                    acknowledged,
                    tracked,
                    outdated,
                };
                assert_eq!(
                    parse(&acknowledged.to_string(), &one, &other),
                    Some(expected)
                );
            }
        }
    }

    #[test]
    fn what_is_no_number_of_32_bits_is_nothing() {
        for wrong in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "0x1",
            "4294967296",
            "1\r",
            "1\0",
            "\u{661}",
        ] {
            assert_eq!(parse(wrong, "1", "1"), None, "{wrong:?}");
            assert_eq!(parse("1", wrong, "1"), None, "{wrong:?}");
            assert_eq!(parse("1", "1", wrong), None, "{wrong:?}");
        }
        for wrong in ["2", "10", "4294967295"] {
            assert_eq!(parse("1", wrong, "1"), None, "{wrong:?}");
            assert_eq!(parse("1", "1", wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_line_that_is_missing_or_there_twice_is_nothing() {
        let lines = [
            "sysgenid-acked:\t1",
            "sysgenid-tracked:\t1",
            "sysgenid-outdated:\t1",
        ];
        assert!(WatcherState::parse(lines.join("\n").as_bytes()).is_some());
        for line in lines {
            let fewer: Vec<_> = lines
                .iter()
                .copied()
                .filter(|other| *other != line)
                .collect();
            assert_eq!(
                WatcherState::parse(fewer.join("\n").as_bytes()),
                None,
                "{line}"
            );
            let twice = [&lines[..], &[line]].concat();
            assert_eq!(
                WatcherState::parse(twice.join("\n").as_bytes()),
                None,
                "{line}"
            );
        }
    }

    #[test]
    fn what_only_looks_like_the_lines_is_nothing() {
        for text in [
            &b""[..],
            b"\n\n\n",
            b"\xff\xfe\x00",
            b" sysgenid-acked:\t1\n sysgenid-tracked:\t1\n sysgenid-outdated:\t1\n",
            b"sysgenid-acked: 1\nsysgenid-tracked: 1\nsysgenid-outdated: 1\n",
            b"sysgenid-acked:\t1 sysgenid-tracked:\t1 sysgenid-outdated:\t1\n",
            b"Sysgenid-acked:\t1\nSysgenid-tracked:\t1\nSysgenid-outdated:\t1\n",
        ] {
            assert_eq!(WatcherState::parse(text), None, "{text:?}");
        }
    }
}
