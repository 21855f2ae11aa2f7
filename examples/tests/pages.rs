// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The README and the book: what can be checked about them without reading.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set, it makes the test write the command's help into the page instead of comparing it.
const UPDATE: &str = "UPDATE_PAGES";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files of the book, as paths from the root.
fn book() -> BTreeSet<String> {
    let folder = root().join("docs/src");
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/src/{name}"))
        .collect()
}

/// Every page that is checked.
fn pages() -> BTreeSet<String> {
    let mut pages = book();
    for page in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "driver/README.md",
    ] {
        pages.insert(page.to_owned());
    }
    pages
}

/// The README of every folder, written with the folder's own code.
fn readmes() -> BTreeSet<String> {
    let folders = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let readmes = folders.map(|folder| format!("{}/README.md", folder.to_str().unwrap()));
    readmes
        .filter(|readme| root().join(readme).exists())
        .collect()
}

/// The targets of the links of a page, code left out.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        for part in line.split("](").skip(1) {
            links.push(part.split(')').next().unwrap().to_owned());
        }
    }
    links
}

/// The lines outside fenced blocks, without their code spans.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut prose = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push(line.split('`').step_by(2).collect::<Vec<_>>().join("`"));
        }
    }
    prose
}

/// The anchors that headings make, as mdBook and the hosting platforms make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if let (false, Some(heading)) = (fenced, line.strip_prefix('#')) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    anchors
}

/// The fenced blocks of a page: what follows the fence, and the lines.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if fenced => fenced = false,
            Some(info) => {
                fenced = true;
                blocks.push((info.to_owned(), Vec::new()));
            }
            None if fenced => blocks.last_mut().unwrap().1.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!fenced, "a fence is not closed");
    blocks
}

/// The lines of Rust code that a reader of the book sees.
fn visible(lines: &[String]) -> Vec<&str> {
    let is_hidden = |line: &&str| line.trim() == "#" || line.trim_start().starts_with("# ");
    lines
        .iter()
        .map(String::as_str)
        .filter(|line| !is_hidden(line))
        .collect()
}

#[test]
fn the_summary_names_every_page_of_the_book() {
    let summary = links(&read("docs/src/SUMMARY.md"));
    let mut named: BTreeSet<_> = summary
        .iter()
        .map(|page| format!("docs/src/{page}"))
        .collect();
    assert_eq!(named.len(), summary.len(), "a page is named twice");
    named.insert("docs/src/SUMMARY.md".into());
    assert_eq!(named, book());
}

#[test]
fn every_page_with_code_is_a_documentation_test() {
    let tested = read("examples/src/lib.rs");
    for page in pages() {
        let has_rust = blocks(&read(&page))
            .iter()
            .any(|(info, _)| info.starts_with("rust"));
        let is_tested = tested.contains(&format!("include_str!(\"../../{page}\")"));
        let must = has_rust || (page.starts_with("docs/src/") && page != "docs/src/SUMMARY.md");
        assert!(is_tested || !must, "{page} is not in examples/src/lib.rs");
    }
}

#[test]
fn every_block_says_its_language() {
    for page in pages() {
        for (info, lines) in blocks(&read(&page)) {
            let languages = ["rust", "rust,no_run", "python", "pycon", "text", "toml"];
            let known = languages.contains(&info.as_str());
            assert!(
                known,
                "{page}: a block says {info:?} and begins {:?}",
                lines.first()
            );
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for page in pages().union(&readmes()) {
        let folder = root().join(page).parent().unwrap().to_owned();
        for link in links(&read(page)) {
            count += 1;
            if link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                root().join(page)
            } else {
                folder.join(path)
            };
            assert!(target.exists(), "{page}: {link} is missing");
            if page.starts_with("docs/") {
                let inside = target
                    .canonicalize()
                    .unwrap()
                    .starts_with(root().join("docs/src"));
                assert!(inside, "{page}: {link} is outside the book");
            }
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(
                    there.contains(anchor),
                    "{page}: {link}: no such heading in {there:?}"
                );
            }
        }
    }
    assert!(count > 20, "only {count} links were found");
}

#[test]
fn the_tables_name_every_member_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let members = manifest
        .split_once("members = [")
        .unwrap()
        .1
        .split_once(']')
        .unwrap()
        .0;
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() > 3, "{members:?}");
    for page in ["README.md", "docs/src/architecture.md"] {
        let text = read(page);
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
        for member in &members {
            let name = format!("`{member}`");
            assert!(
                rows.iter().any(|row| row.contains(&name)),
                "{page}: no row for {name}"
            );
        }
    }
}

#[test]
fn versions_are_those_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let value = |key: &str| {
        let start = format!("{key} = \"");
        let line = manifest
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap();
        line.trim_end_matches('"').to_owned()
    };
    let (version, rust) = (value("version"), value("rust-version"));
    assert!(
        read("CHANGELOG.md").contains(&format!("{version}]")),
        "CHANGELOG.md: no {version}"
    );
    assert_eq!(env!("CARGO_PKG_VERSION"), version);

    for page in ["README.md", "docs/src/platforms.md"] {
        let text = read(page);
        let shown = [format!("Rust {rust}"), format!("Rust version is {rust}")];
        assert!(
            shown.iter().any(|shown| text.contains(shown)),
            "{page}: no Rust {rust}"
        );
        for line in text.lines().filter(|line| line.contains("sysgenid = ")) {
            assert!(line.contains(&format!("\"{version}\"")), "{page}: {line}");
        }
    }
}

/// The README is read where hidden lines are not hidden. So its code has none, is compiled as it
/// stands, and is run as a part of the book's.
#[test]
fn the_code_of_the_readme_is_that_of_the_quick_start() {
    let quickstart = read("docs/src/quickstart.md");
    let run: Vec<_> = blocks(&quickstart)
        .into_iter()
        .filter(|(info, _)| info == "rust")
        .collect();
    let mut count = 0;
    for (info, lines) in blocks(&read("README.md")) {
        if !info.starts_with("rust") {
            continue;
        }
        count += 1;
        assert_eq!(info, "rust,no_run", "it needs a source");
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let found = run.iter().any(|(_, run)| visible(run) == lines);
        assert!(
            found,
            "not in docs/src/quickstart.md:\n{}",
            lines.join("\n")
        );
    }
    assert_eq!(
        count, 6,
        "probe, guarded secret, random numbers, watcher, tokio, orchestrator"
    );
}

#[test]
fn the_page_on_the_command_shows_its_help() {
    let page = "docs/src/command.md";
    let old = read(page);
    let mut new = String::new();
    let mut count = 0;
    let mut lines = old.lines();
    while let Some(line) = lines.next() {
        new += &format!("{line}\n");
        let Some(marker) = line.strip_prefix("<!-- sysgenid ") else {
            continue;
        };
        let arguments = marker.strip_suffix(" -->").unwrap();
        new += &format!("```text\n{}\n```\n", help(arguments));
        assert_eq!(lines.next(), Some("```text"), "after {line}");
        assert!(lines.by_ref().any(|line| line == "```"), "after {line}");
        count += 1;
    }
    assert!(count >= 7, "each command has its help");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(root().join(page), &new).unwrap();
    } else {
        assert!(
            new == old,
            "{page} is not what the command says; {UPDATE}=1 writes it anew"
        );
    }
}

fn help(arguments: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "sysgenid-cli", "--"])
        .args(arguments.split(' '))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim_end()
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect::<String>()
        .trim_end()
        .to_owned()
}
