// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server of `axum_rotate_tickets` with many clients, while the generation changes again and
//! again: no connection and no ticket is of use in two generations.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

#[path = "../axum_rotate_tickets/connections.rs"]
mod connections;
#[path = "../axum_rotate_tickets/fence.rs"]
mod fence;
#[path = "../axum_rotate_tickets/server.rs"]
mod server;
#[path = "../axum_rotate_tickets/tickets.rs"]
mod tickets;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::{Router, routing::get};
use sysgenid_tokio::{AsyncOrchestrator, Watcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use server::Server;
use tickets::GuardedTickets;

const CLIENTS: usize = 8;
const CHANGES: u64 = 40;
/// Between two changes, so that there is something to cut on a slow machine, too.
const RESUMED: usize = 4;
const REQUESTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients saw.
#[derive(Debug, Default)]
struct Seen {
    full: AtomicUsize,
    resumed: AtomicUsize,
    cut: AtomicUsize,
    over: AtomicBool,
}

fn count(number: &AtomicUsize) {
    number.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_of_use_in_two_generations() {
    let _ = ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let watcher = Watcher::open_at(folder.path()).await.unwrap();
    let probe = Arc::new(watcher.probe().unwrap());

    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tickets = Arc::new(GuardedTickets::new(Arc::clone(&probe)));
    let mut tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    tls.ticketer = tickets.clone();
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::clone(&probe);
    let server = Server {
        listener,
        tls: TlsAcceptor::from(Arc::new(tls)),
        app: Router::new().route("/", get(async move || answered.generation().to_string())),
        tickets,
        watcher,
        witness: probe,
    };
    let server = tokio::spawn(server.run());

    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(address, roots.clone(), Arc::clone(&seen))))
        .collect();

    let orchestrator = AsyncOrchestrator::open_at(folder.path()).await.unwrap();
    let nothing = async |_| Ok::<_, Infallible>(());
    for number in 1..=CHANGES {
        let enough = seen.resumed.load(Ordering::Relaxed) + RESUMED;
        let resumed = async {
            while seen.resumed.load(Ordering::Relaxed) < enough {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, resumed)
            .await
            .expect("they are served again");
        orchestrator.trigger().await.unwrap();
        let settled = orchestrator.settle(PATIENCE, nothing).await.unwrap();
        assert_eq!(settled.generation.get(), number);
    }
    seen.over.store(true, Ordering::Relaxed);
    for client in clients {
        timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    println!("{CHANGES} changes, {CLIENTS} clients: {seen:?}");
    assert!(!server.is_finished());
    assert!(seen.cut.load(Ordering::Relaxed) > 0, "{seen:?}");
}

/// Comes twice with one store of tickets, again and again.
async fn client(server: SocketAddr, roots: RootCertStore, seen: Arc<Seen>) {
    while !seen.over.load(Ordering::Relaxed) {
        let tls = ClientConfig::builder()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(tls));
        let mut first = None;
        for _ in 0..2 {
            let Some((kind, generation)) = visit(&connector, server).await else {
                count(&seen.cut);
                break;
            };
            match (kind, first.replace(generation)) {
                (HandshakeKind::Resumed, Some(issued)) => {
                    assert_eq!(generation, issued, "a ticket was of use in two generations");
                    count(&seen.resumed);
                }
                (HandshakeKind::Resumed, None) => panic!("resumed without a ticket"),
                _ => count(&seen.full),
            }
        }
    }
}

/// A few requests on one connection: how it began, and the generation of its answers. `None` if it
/// was cut.
async fn visit(connector: &TlsConnector, server: SocketAddr) -> Option<(HandshakeKind, u64)> {
    let stream = TcpStream::connect(server).await.ok()?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.ok()?;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let mut generation = None;
    for _ in 0..REQUESTS {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::new();
        let body = loop {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                return None;
            }
            // Short enough to come in one piece, or with the head first.
            let text = std::str::from_utf8(&answer).unwrap();
            match text.split_once("\r\n\r\n") {
                Some((_, body)) if !body.is_empty() => break body.parse().unwrap(),
                _ => {}
            }
        };
        let before = generation.replace(body).unwrap_or(body);
        assert_eq!(body, before, "a connection was of use in two generations");
        sleep(Duration::from_millis(1)).await;
    }
    Some((kind, generation?))
}
