// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::collections::BTreeMap;
use std::error::Error;

/// What a copy and its children have: one line for each thing, `process name value`.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    values: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a process reports beside its secrets.
const NO_SECRETS: [&str; 3] = ["copied", "page", "watcher"];

impl Report {
    pub(crate) fn parse(text: &str) -> Result<Self, Box<dyn Error>> {
        let mut values = BTreeMap::<_, BTreeMap<_, _>>::new();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let [process, name, value] =
                <[String; 3]>::try_from(words).map_err(|_| format!("a copy reports {line:?}"))?;
            values.entry(process).or_default().insert(name, value);
        }
        Ok(Self { values })
    }

    /// `parent`, and its children.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The names of the secrets, which all of them have.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let names = self
            .values
            .get("parent")
            .into_iter()
            .flat_map(BTreeMap::keys);
        let secrets = names.map(String::as_str);
        secrets.filter(|name| !NO_SECRETS.contains(name))
    }

    pub(crate) fn get(&self, process: &str, name: &str) -> &str {
        let value = self.values.get(process).and_then(|values| values.get(name));
        value.unwrap_or_else(|| panic!("no {name} of {process} was reported"))
    }
}
