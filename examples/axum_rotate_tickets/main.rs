// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An HTTPS service whose session tickets, handshakes and connections do not outlive a restore, and
//! a client that sees it.
//!
//! `cargo run --release --example axum_rotate_tickets`
//!
//! It starts a userspace driver of its own. With `SYSGENID_SOURCE` it takes that source, and waits
//! until the generation changes there.
#![forbid(unsafe_code)]

mod connections;
mod fence;
mod server;
mod tickets;
mod visitor;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::{Router, routing::get};
use rcgen::CertifiedKey;
use sysgenid_examples::{Failure, Stage};
use sysgenid_tokio::Watcher;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::NoServerSessionStorage;

use crate::server::Server;
use crate::tickets::GuardedTickets;
use crate::visitor::{Visitor, is_closed};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // It asks the kernel for each random number, and so keeps no generator that a snapshot could
    // copy. rustls's usual one, AWS-LC, does keep one, and notices by itself, but at one source
    // only: the path `/dev/sysgenid` is compiled in.
    let installed = ring::default_provider().install_default();
    installed.map_err(|_| "there is another provider of cryptography")?;

    let stage = Stage::set().await?;
    let watcher = Watcher::open_at(stage.source()).await?;
    // A service takes `ProcessWide`, which looks at a counter of the hypervisor's as well. It reads
    // the environment, and there this example's own userspace driver is not.
    let witness = Arc::new(watcher.probe()?);
    let tickets = Arc::new(GuardedTickets::new(Arc::clone(&witness)));

    // Made for this run. A real one is the service's identity, which its clones have in common by
    // intent; if they must not, each needs a certificate of its own.
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".into()])?;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let certificate = CertificateDer::from(cert);
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    tls.ticketer = tickets.clone();
    // Nothing else to resume a session by.
    tls.session_storage = Arc::new(NoServerSessionStorage {});

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    println!("generation {}: https://{address}", watcher.generation());
    let server = Server {
        listener,
        tls: TlsAcceptor::from(Arc::new(tls)),
        app: Router::new().route("/", get(async || "hello\n")),
        tickets,
        watcher,
        witness,
    };
    tokio::select! {
        ended = server.run() => match ended? {},
        shown = show(&stage, Visitor::new(address, certificate)?) => shown,
    }
}

async fn show(stage: &Stage, client: Visitor) -> Result<(), Failure> {
    client.visit().await?;
    client.visit().await?; // with a ticket

    let open = client.stay().await?;
    let half = client.begin_handshake().await?;
    println!("client: one connection open, and one handshake half done");

    stage.change().await?;
    stage.settle().await?; // the server has acknowledged
    let (open, _) = open.into_inner();
    for (what, stream) in [("open connection", open), ("handshake", half)] {
        if !is_closed(stream).await {
            return Err(format!("the {what} goes on").into());
        }
        println!("client: the {what} was cut, without a word");
    }

    client.visit().await?; // its tickets are of before
    client.visit().await?;
    Ok(())
}
