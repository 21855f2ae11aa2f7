// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A service on smol answers requests, and replaces its token when the system was restored. There is
//! no adapter for smol and none is needed: its `Async` waits for whatever has a descriptor (`AsFd`).
//!
//! Terminal 1: `sysgenid serve --dir /tmp/sysgenid`
//! Terminal 2: `export SYSGENID_SOURCE=/tmp/sysgenid`, then
//! `cargo run -p sysgenid-examples --example answer_requests`; each line typed is a request, and
//! the end of the input (Ctrl-D) ends the service
//! Terminal 3: `SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger`
#![forbid(unsafe_code)]

use std::{error::Error, io, time::Duration};

use smol::io::{AsyncBufReadExt, BufReader};
use smol::{Async, Timer, Unblock, future::FutureExt, stream::StreamExt};
use sysgenid::{Generation, Watcher};
use sysgenid_examples::random_id;

enum Event {
    Changed(Generation),
    Request,
    End,
}

/// The next change, also if it came before. A wake-up may be spurious: `try_changed` decides.
async fn changed(watcher: &Async<Watcher>) -> io::Result<Event> {
    loop {
        if let Some(generation) = watcher.get_ref().try_changed()? {
            return Ok(Event::Changed(generation));
        }
        watcher.readable().await?;
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    // A broker may be slow to answer, so not on the executor's thread.
    let watcher = Async::new(smol::unblock(Watcher::open).await?)?;
    let mut requests = BufReader::new(Unblock::new(io::stdin())).lines();
    let mut token = random_id()?;
    println!("ready at generation {}", watcher.get_ref().generation());
    loop {
        let request = async {
            let line = requests.next().await.transpose()?;
            Ok(line.map_or(Event::End, |_| Event::Request))
        };
        let nothing = async {
            Timer::after(Duration::from_secs(60)).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        // The change first, so that no request is answered with the old token.
        match changed(&watcher).or(request).or(nothing).await? {
            Event::Changed(generation) => {
                token = random_id()?;
                match watcher.get_ref().acknowledge(generation) {
                    Ok(()) => println!("generation {generation}: token replaced"),
                    Err(error) if error.is_stale() => {} // it moved again: outdated still
                    Err(error) => return Err(error.into()),
                }
            }
            Event::Request => println!("answered with token {token:016x}"),
            Event::End => return Ok(()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(serve())
}
