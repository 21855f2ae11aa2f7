// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of stragglers, some of which choose misleading names.

use std::process::Command;
use std::time::Duration;

use sysgenid::{Orchestrator, SOURCE_VARIABLE, Straggler};

use super::Subject;
use super::part::{HONEST, Part};
use super::scene::Scene;
use super::widened;
use crate::cases;
use crate::forked::Forked;
use crate::suite::skip;

cases! { Subject;
    hostile_names,
    ten_attackers_do_not_hide_the_honest_straggler,
    a_reused_pid_is_not_accused,
}

fn stragglers(scene: &Scene) -> Vec<Straggler> {
    let orchestrator = Orchestrator::open_at(scene.path()).expect("an orchestrator opens");
    orchestrator.stragglers().expect("the owner may list them")
}

/// A name may have any bytes but zero, and some of them control a terminal.
fn hostile_names(subject: &Subject) {
    let scene = Scene::start(subject);
    let attacker = scene.attack(Part::HostileName);
    scene.trigger();
    let stragglers = stragglers(&scene);
    assert_eq!(stragglers.len(), 10, "{stragglers:?}");
    for straggler in &stragglers {
        assert_eq!(straggler.pid, Some(attacker.id()));
        let shown = straggler.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
    scene.expect_service();
    scene.finish([attacker]);
}

/// `sysgenid wait` names the honest user or process although ten watchers of another user come
/// before it.
fn ten_attackers_do_not_hide_the_honest_straggler(subject: &Subject) {
    let program = std::env::current_exe().expect("this program has a path");
    let command = program.with_file_name("sysgenid");
    if !command.exists() {
        // `cargo test --workspace` builds it.
        skip(format!("{} is not built", command.display()));
    }
    let scene = Scene::start(subject);
    let attacker = scene.attack(Part::HostileName);
    let honest = scene.honest();
    scene.trigger();
    let timeout = widened(Duration::from_millis(200));
    let output = Command::new(command)
        .args(["wait", "--timeout", &format!("{}ms", timeout.as_millis())])
        .env(SOURCE_VARIABLE, scene.path())
        .output()
        .expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = HONEST.to_str().expect("it is of ASCII").to_owned();
    let user = subject.honest().expect("it has a separate user");
    let shown = [name, user.to_string(), honest.id().to_string()];
    assert!(shown.iter().any(|part| said.contains(part)), "{said:?}");
    let is_hostile = |char: char| char.is_control() && char != '\n';
    assert!(!said.contains(is_hostile), "{said:?}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said:?}");
    drop(honest);
    scene.expect_service();
    scene.finish([attacker]);
}

/// The process that opened the watcher has ended, a forked child keeps the watcher, and another
/// process has the process id.
fn a_reused_pid_is_not_accused(subject: &Subject) {
    let scene = Scene::start(subject);
    let mut attacker = scene.attack(Part::LeaveToChild);
    let pid = attacker.id();
    scene.trigger();
    assert_eq!(stragglers(&scene).len(), 1);
    attacker.let_on("");
    attacker.expect_end();
    let innocent = Forked::start_with(
        || clone_as(pid),
        |steps| {
            let _ = rustix::thread::set_name(c"innocent");
            steps.step();
        },
    );
    innocent.arrives();
    let stragglers = stragglers(&scene);
    assert_eq!(stragglers.len(), 1, "the child keeps the watcher");
    assert!(
        !stragglers.iter().any(|it| it.command.contains("innocent")),
        "{stragglers:?}"
    );
    drop(innocent);
    scene.expect_service();
    scene.finish([attacker]);
}

/// Forks a child that has this process id.
fn clone_as(pid: u32) -> libc::pid_t {
    let ids = [libc::pid_t::try_from(pid).expect("it is a process id")];
    // `struct clone_args`: eleven words. The fifth is the signal, and the ninth and tenth are the
    // ids and how many.
    let mut arguments = [0_u64; 11];
    arguments[4] = u64::from(libc::SIGCHLD.cast_unsigned());
    arguments[8] = ids.as_ptr().expose_provenance() as u64;
    arguments[9] = 1;
    // SAFETY: Without a stack and flags it is `fork`; the structure has the length that is given,
    // and the ids outlive the call. The child allocates nothing unless it fails, and ends.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_mut_ptr(),
            size_of_val(&arguments),
        )
    };
    libc::pid_t::try_from(returned).expect("it is a process id")
}
