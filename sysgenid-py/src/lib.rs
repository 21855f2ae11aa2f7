// SPDX-License-Identifier: Apache-2.0 OR MIT
#![cfg(target_os = "linux")]
//! The native part of the Python package `sysgenid`. It is private: the package names what is public.

mod errors;
mod handle;
mod hooks;
mod orchestrator;
mod probe;
mod probe_type;
mod process;
mod random;
mod status;
mod timeout;
mod uniqueness;
mod waiting;
mod watcher;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::hooks::{
        Background, register_hook, registered_hooks, run_after_restore, run_before_snapshot,
        start_background, unregister_hooks,
    };
    #[pymodule_export]
    use crate::orchestrator::{Orchestrator, Settled, Straggler};
    #[pymodule_export]
    use crate::process::{
        assume_restored, generation, refresh, shows_restores, uniqueness, verify,
    };
    #[pymodule_export]
    use crate::random::{GuardedDraws, GuardedLock, entropy};
    #[pymodule_export]
    use crate::status::{Status, WatcherCounts, sources, status, trigger};
    #[pymodule_export]
    use crate::uniqueness::Uniqueness;
    #[pymodule_export]
    use crate::watcher::{Changes, Watcher};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("Probe", crate::probe_type::get(module.py())?)
    }
}
