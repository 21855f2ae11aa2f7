// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A service that answers `503` with `Retry-After` from a restore on until it has rebuilt what must
//! be unique.
//!
//! `cargo run --example refuse_while_outdated`
//!
//! It starts a userspace driver of its own. With `SYSGENID_SOURCE` it takes that source, and waits
//! until the generation changes there.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::error_handling::HandleErrorLayer;
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::{BoxError, Router, routing::get};
use sysgenid::Gate;
use sysgenid_examples::{Failure, Stage, random_id};
use sysgenid_tokio::{GateLayer, Watcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What each clone must have another of.
type Token = Arc<AtomicU64>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let stage = Stage::set().await?;
    let watcher = Watcher::open_at(stage.source()).await?;
    // A service takes `Gate::closed()`, which looks at a counter of the hypervisor's as well. It reads
    // the environment, and there this example's own userspace driver is not.
    let gate = Arc::new(Gate::closed_with_witness(Arc::new(watcher.probe()?)));
    let token = Token::default();

    let handler = {
        let token = Arc::clone(&token);
        async move || format!("token {:016x}", token.load(Ordering::Relaxed))
    };
    let later = async |_stale: BoxError| (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]);
    let gated = (
        HandleErrorLayer::new(later),
        GateLayer::refuse(Arc::clone(&gate)),
    );
    let app = Router::new().route("/", get(handler)).layer(gated);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, app).into_future());

    show("not ready", server).await?;
    let mark = gate.mark(); // first: what is made before a change is made again
    token.store(random_id()?, Ordering::Relaxed);
    gate.open(mark);
    show("ready", server).await?;

    stage.change().await?;
    show("changed", server).await?;

    // A service does this from its start and again and again, in a task of its own. Here it begins
    // when the refusal has been seen.
    let handled = async {
        let mark = gate.mark();
        let rebuild = async |_generation| random_id().map(|id| token.store(id, Ordering::Relaxed));
        watcher.handle(rebuild).await?;
        gate.open(mark);
        Ok(())
    };
    tokio::try_join!(handled, stage.settle())?;
    show("acknowledged", server).await
}

/// Asks as a client does.
async fn show(when: &str, server: SocketAddr) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(server).await?;
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let told = |line: &&str| line.starts_with("HTTP") || line.starts_with("retry-after");
    let lines: Vec<_> = head.lines().filter(told).chain(body.lines()).collect();
    println!("{when}: {}", lines.join(", "));
    Ok(())
}
