// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Text that another process chose, such as a path or the name of a command, made safe to print.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// Makes text that another process chose safe to print to a terminal or a log.
///
/// Shows printable text as it is, in every script. Escapes control characters, bytes that are not
/// UTF-8, and characters that are invisible or change the direction of the text: as `\n`, `\r` and
/// `\t`, a byte as `\x1b`, a character as `\u{202e}`. The backslash itself becomes `\\`, so that an
/// escape is never ambiguous.
///
/// ```
/// use sysgenid::Printable;
///
/// assert_eq!(Printable::new("/tmp/größe 1").to_string(), "/tmp/größe 1");
/// assert_eq!(Printable::new("a\x1b[2J\nb").to_string(), r"a\x1b[2J\nb");
/// assert_eq!(Printable::new(r"a\nb").to_string(), r"a\\nb");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(&'a OsStr);

impl<'a> Printable<'a> {
    /// Takes a path, a string, or bytes by way of
    /// [`OsStr::from_bytes`](std::os::unix::ffi::OsStrExt::from_bytes).
    #[must_use]
    pub fn new<T: AsRef<OsStr> + ?Sized>(text: &'a T) -> Self {
        Self(text.as_ref())
    }

    /// Whether a character is shown as it is.
    #[must_use]
    pub fn shows(character: char) -> bool {
        if character.is_ascii() {
            return character != '\\' && !character.is_ascii_control();
        }
        // The standard library knows what is printable, but escapes a combining mark that comes
        // first.
        let mut escaped = ['a', character]
            .iter()
            .collect::<String>()
            .escape_debug()
            .count();
        escaped -= 1;
        escaped == 1 && !is_ignorable(character)
    }
}

/// Characters that the standard library takes for printable and that show nothing by themselves.
fn is_ignorable(character: char) -> bool {
    matches!(
        u32::from(character),
        0x034f
            | 0x115f..=0x1160
            | 0x17b4..=0x17b5
            | 0x180b..=0x180f
            | 0x2800
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xffa0
            | 0xe0000..=0xe0fff
    )
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_bytes().utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\n' => f.write_str(r"\n")?,
                    '\r' => f.write_str(r"\r")?,
                    '\t' => f.write_str(r"\t")?,
                    '\\' => f.write_str(r"\\")?,
                    shown if Self::shows(shown) => f.write_char(shown)?,
                    hidden if hidden.is_ascii() => write!(f, r"\x{:02x}", u32::from(hidden))?,
                    hidden => write!(f, r"\u{{{:x}}}", u32::from(hidden))?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, r"\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Printable::new(OsStr::from_bytes(bytes)).to_string()
    }

    #[test]
    fn printable_text_stays_as_it_is() {
        for text in [
            "",
            "worker",
            "a b (c) 'd' \"e\"",
            "größe",
            "gro\u{308}ße",
            "हिन्दी",
            "日本語",
            "🦀",
        ] {
            assert_eq!(shown(text.as_bytes()), text);
        }
    }

    #[test]
    fn all_else_is_escaped() {
        for (text, expected) in [
            (&b"a\x1b[31mb"[..], r"a\x1b[31mb"),
            (b"a\nb\rc\td\0", r"a\nb\rc\td\x00"),
            (b"\x7f", r"\x7f"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"a\xc3", r"a\xc3"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            (r"\x1b".as_bytes(), r"\\x1b"),
        ] {
            assert_eq!(shown(text), expected);
        }
        let hidden = [
            0x202a..=0x202e,
            0x2066..=0x2069,
            0x200b..=0x200f,
            0x80..=0x9f,
        ];
        let more = [
            0xad, 0x34f, 0x2028, 0x2029, 0x2060, 0x3164, 0xfe0f, 0xfeff, 0xe0041,
        ];
        for number in hidden.into_iter().flatten().chain(more) {
            let character = char::from_u32(number).unwrap_or_default();
            let expected = format!("a\\u{{{number:x}}}b");
            assert_eq!(shown(format!("a{character}b").as_bytes()), expected);
        }
    }

    proptest::proptest! {
        /// Nothing that is shown is hidden, and no two texts are shown alike.
        #[test]
        fn what_is_shown_can_be_read_back(bytes: Vec<u8>) {
            let shown = shown(&bytes);
            proptest::prop_assert!(shown.chars().all(|c| c == '\\' || Printable::shows(c)));
            proptest::prop_assert_eq!(read_back(&shown), bytes);
        }
    }

    fn read_back(shown: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = shown.chars();
        while let Some(character) = rest.next() {
            let mut take = |count| rest.by_ref().take(count).collect::<String>();
            let text = match character {
                '\\' => match take(1).as_str() {
                    "n" => "\n".to_owned(),
                    "r" => "\r".to_owned(),
                    "t" => "\t".to_owned(),
                    "x" => {
                        bytes.push(u8::from_str_radix(&take(2), 16).unwrap_or_default());
                        continue;
                    }
                    "u" => {
                        take(1);
                        let digits = rest.by_ref().take_while(|c| *c != '}').collect::<String>();
                        let number = u32::from_str_radix(&digits, 16).unwrap_or_default();
                        char::from_u32(number).unwrap_or_default().to_string()
                    }
                    other => other.to_owned(),
                },
                plain => plain.to_string(),
            };
            bytes.extend(text.bytes());
        }
        bytes
    }
}
