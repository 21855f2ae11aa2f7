// SPDX-License-Identifier: Apache-2.0 OR MIT
#![cfg(target_os = "linux")]
//! The native part of the Python package `sysgenid`. It is private: the package names what is public.

mod attached;
mod callbacks;
mod change;
mod changes;
mod derived;
mod errors;
mod guarded;
mod handle;
mod hooks;
mod hub;
mod left;
mod orchestrator;
mod probe;
mod probe_type;
mod process;
mod protection;
mod random;
mod serve;
mod source;
mod status;
mod testing;
mod timeout;
mod uniqueness;
mod waiting;
mod watcher;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::callbacks::{is_deferred, refuse_deferred_result};
    #[pymodule_export]
    use crate::change::Change;
    #[pymodule_export]
    use crate::changes::Changes;
    #[pymodule_export]
    use crate::guarded::Guarded;
    #[pymodule_export]
    use crate::hooks::{
        Background, Registration, register_hook, registered_hooks, run_after_restore,
        run_before_snapshot, start_background,
    };
    #[pymodule_export]
    use crate::orchestrator::{Orchestrator, Settled, Straggler};
    #[pymodule_export]
    use crate::process::{
        assume_restored, generation, refresh, shows_restores, uniqueness, verify,
    };
    #[pymodule_export]
    use crate::protection::{Protection, init, protection};
    #[pymodule_export]
    use crate::random::{GuardedLock, entropy};
    #[pymodule_export]
    use crate::serve::Server;
    #[pymodule_export]
    use crate::source::source_is_taken;
    #[pymodule_export]
    use crate::status::{Status, WatcherCounts, status, trigger};
    #[pymodule_export]
    use crate::testing::Broker;
    #[pymodule_export]
    use crate::uniqueness::Uniqueness;
    #[pymodule_export]
    use crate::watcher::{Watcher, WatcherChanges};

    #[pymodule_init]
    fn set_up(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // `_interpreter.py` has refused it before, unless it could not tell.
        if !crate::attached::in_main_interpreter(py) {
            return Err(PyImportError::new_err(
                "sysgenid cannot be imported in a subinterpreter",
            ));
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("Probe", crate::probe_type::get(py)?)?;
        module.add("GuardedDraws", crate::random::draws_type(py)?)?;
        module.add("CachedBase", crate::guarded::cached_type(py)?)
    }
}
