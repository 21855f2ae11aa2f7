// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Services in Python, copied while they serve: with the package, and their twins without it.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;

use super::copies::{Dumped, Program};
use super::report::Report;
use crate::cases;
use crate::suite::Case;

/// What two copies of each service have reported.
#[derive(Clone, Debug)]
pub struct Services {
    protected: BTreeMap<&'static str, [Report; 2]>,
    unprotected: BTreeMap<&'static str, [Report; 2]>,
}

/// `service.py` has both.
const KINDS: [&str; 2] = ["asyncio", "prefork"];

cases! { Services;
    copies_of_unprotected_services_share_each_number_token_and_connection,
    no_number_token_or_connection_of_a_protected_service_is_equal,
}

/// All cases.
pub fn cases() -> impl Iterator<Item = &'static Case<Services>> {
    CASES.iter()
}

impl Services {
    /// Starts each service, has CRIU checkpoint it, and restores it twice, after a change that a
    /// source shows.
    ///
    /// # Errors
    ///
    /// If a step fails; then with what CRIU has logged.
    pub fn make(criu: &[OsString], python: &Path) -> Result<Self, Box<dyn Error>> {
        let copies = |protected: bool| {
            let copy = |kind| {
                let program = Program::Service {
                    interpreter: python.to_owned(),
                    kind,
                    protected,
                };
                let dumped = Dumped::make(criu, &program)?;
                dumped.change()?;
                Ok((kind, dumped.pair("report")?))
            };
            KINDS.into_iter().map(copy).collect::<Result<_, _>>()
        };
        copies(true).and_then(|protected| {
            Ok(Self {
                protected,
                unprotected: copies(false)?,
            })
        })
    }
}

/// The control.
fn copies_of_unprotected_services_share_each_number_token_and_connection(services: &Services) {
    for (kind, [first, second]) in &services.unprotected {
        for process in first.processes() {
            for secret in first.secrets() {
                assert_eq!(
                    first.get(process, secret),
                    second.get(process, secret),
                    "{secret} of {process}, {kind}"
                );
            }
        }
    }
}

fn no_number_token_or_connection_of_a_protected_service_is_equal(services: &Services) {
    let least = BTreeMap::from([("asyncio", 8), ("prefork", 24)]);
    for (kind, copies) in &services.protected {
        let compared = super::expect_no_equal_secret(copies);
        assert_eq!(Some(&compared), least.get(kind), "{kind}");
    }
}
