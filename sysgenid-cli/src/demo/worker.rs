// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clients of the demonstration, each in a process of its own.

use std::hash::{DefaultHasher, Hasher};
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::thread::set_name;
use sysgenid::{Deadline, Guarded, Probe, Source, Watcher, Zeroize, entropy};

use super::member::{BETWEEN_USES, Member};
use super::report::{Report, now};
use crate::eof::on_end_of_input;
use crate::failure::Failure;

/// No worker lives longer, whatever becomes of the demonstration.
const LIFETIME: Duration = Duration::from_secs(60);

pub(crate) fn worker(role: Member, source: Source) -> Result<(), Failure> {
    on_end_of_input(|| process::exit(0))?;
    // Before it connects, so that the driver knows it by this name.
    set_name(role.command()).map_err(|errno| Failure::call("prctl", errno))?;
    let deadline = Deadline::after(LIFETIME);
    if role == Member::Guarded {
        guard(source, deadline)
    } else {
        watch(role, source, deadline)
    }
}

/// Uses a secret all the time, as a server does for each handshake.
fn guard(source: Source, deadline: Deadline) -> Result<(), Failure> {
    let (builds, built) = mpsc::channel();
    let mut secret = Guarded::with_witness(Probe::open_on(source)?, move |generation| {
        let noticed = now();
        let secret = Secret::new()?;
        // The receiver lives as long as this process.
        let _ = builds.send((generation.get(), noticed, now()));
        Ok(secret)
    });

    let mut known: Option<String> = None;
    while !deadline.has_passed() {
        let used = secret.with(|secret| secret.fingerprint())?;
        // A build that was overtaken by another change leaves more than one; the last counts.
        if let Some((generation, noticed, at)) = built.try_iter().last() {
            match known {
                None => Report::Ready {
                    generation,
                    fingerprint: used.clone(),
                }
                .send()?,
                Some(before) => {
                    Report::Noticed {
                        at: noticed,
                        generation,
                    }
                    .send()?;
                    Report::Rebuilt {
                        at,
                        generation,
                        before,
                        after: used.clone(),
                        acknowledged: false,
                    }
                    .send()?;
                }
            }
            known = Some(used);
        }
        thread::sleep(BETWEEN_USES);
    }
    Ok(())
}

/// Sleeps until it is woken, rebuilds and acknowledges.
fn watch(role: Member, source: Source, deadline: Deadline) -> Result<(), Failure> {
    let watcher = Watcher::open_at(source.path())?;
    let mut secret = Secret::new()?;
    Report::Ready {
        generation: watcher.generation().get(),
        fingerprint: secret.fingerprint(),
    }
    .send()?;

    loop {
        let before = secret.fingerprint();
        let mut at = 0;
        let generation = watcher.handle(deadline, |generation| {
            let noticed = now();
            // An unheard report is the end of the demonstration, and then of this process.
            let _ = Report::Noticed {
                at: noticed,
                generation: generation.get(),
            }
            .send();
            thread::sleep(role.delay());
            secret = Secret::new()?;
            // The acknowledgement is the next thing that happens.
            at = now();
            Ok::<_, sysgenid::Error>(())
        })?;
        Report::Rebuilt {
            at,
            generation: generation.get(),
            before,
            after: secret.fingerprint(),
            acknowledged: true,
        }
        .send()?;
    }
}

/// What must not be the same in two clones.
struct Secret([u8; 32]);

impl Secret {
    /// From the kernel's generator, which is reseeded on a restore.
    fn new() -> sysgenid::Result<Self> {
        entropy::array().map(Self)
    }

    /// 32 of its 256 bits' hash: tells two secrets apart and gives neither away.
    fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        format!("{:08x}", hasher.finish() >> 32)
    }
}

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_tell_secrets_apart() {
        let [one, two] = [Secret([1; 32]), Secret([2; 32])];
        assert_eq!(one.fingerprint(), Secret([1; 32]).fingerprint());
        assert_ne!(one.fingerprint(), two.fingerprint());
        assert_eq!(one.fingerprint().len(), 8);
        assert_ne!(Secret::new().unwrap().0, Secret::new().unwrap().0);
    }
}
