// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of `axum_rotate_tickets` in the window between a change and the moment that anybody is
//! told of it: nobody watches here.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../axum_rotate_tickets/connections.rs"]
mod connections;
#[path = "../axum_rotate_tickets/fence.rs"]
mod fence;
#[path = "../axum_rotate_tickets/tickets.rs"]
mod tickets;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sysgenid::testing::Restores;
use sysgenid::{Bound, Witness};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use connections::Connections;
use fence::Fenced;
use tickets::GuardedTickets;

/// Both ends of TLS, not connected yet.
fn ends() -> (TlsAcceptor, Arc<ClientConfig>) {
    let _ = ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let certificate = CertificateDer::from(made.cert);
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn fenced(stream: DuplexStream, witness: &Restores) -> Fenced<DuplexStream, Restores> {
    let mark = witness.mark();
    Fenced(Bound::unwiped_with_witness(witness.clone(), mark, stream))
}

#[test]
fn the_old_key_is_out_of_use_at_once() {
    let witness = Restores::new();
    let tickets = GuardedTickets::new(witness.clone());
    let ticket = tickets.encrypt(b"a session").unwrap();
    assert_eq!(tickets.decrypt(&ticket).unwrap(), b"a session");

    witness.restore();
    assert_eq!(tickets.decrypt(&ticket), None);
    let ticket = tickets.encrypt(b"another").unwrap();
    assert_eq!(tickets.decrypt(&ticket).unwrap(), b"another");

    witness.restore();
    tickets.renew().unwrap();
    assert_eq!(tickets.decrypt(&ticket), None);
    assert!(tickets.lifetime() > 0);
}

/// The server has sent all of its part, and the client's last message waits to be read.
#[tokio::test]
async fn a_handshake_is_not_finished_in_another_generation() {
    for changes in [false, true] {
        let witness = Restores::new();
        let (acceptor, config) = ends();
        let (mut wire, server) = duplex(1 << 16);
        let handshake = tokio::spawn(acceptor.accept(fenced(server, &witness)));

        let mut client = ClientConnection::new(config, name()).unwrap();
        let mut message = Vec::new();
        client.write_tls(&mut message).unwrap();
        wire.write_all(&message).await.unwrap();
        while client.is_handshaking() {
            let mut answer = [0; 4096];
            let length = wire.read(&mut answer).await.unwrap();
            client.read_tls(&mut &answer[..length]).unwrap();
            client.process_new_packets().unwrap();
        }
        if changes {
            witness.restore();
        }
        message.clear();
        client.write_tls(&mut message).unwrap();
        wire.write_all(&message).await.unwrap();

        let ended = handshake.await.unwrap();
        let kind = ended.err().map(|error| error.kind());
        let refused = Some(ErrorKind::ConnectionAborted);
        assert_eq!(kind, if changes { refused } else { None });
        let mut rest = Vec::new();
        wire.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.is_empty(), changes, "tickets, only if nothing changed");
    }
}

#[tokio::test]
async fn nothing_leaves_and_nothing_enters_an_old_connection() {
    let witness = Restores::new();
    let (acceptor, config) = ends();
    let (client, server) = duplex(1 << 16);
    let connector = TlsConnector::from(config);
    let (client, server) = tokio::join!(
        connector.connect(name(), client),
        acceptor.accept(fenced(server, &witness)),
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    server.write_all(b"before").await.unwrap();
    server.flush().await.unwrap();
    let mut read = [0; 6];
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"before");

    client.write_all(b"a request").await.unwrap();
    client.flush().await.unwrap();
    witness.restore();
    let error = server.read(&mut read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    // To close it properly is to encrypt a goodbye.
    let error = server.shutdown().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);

    drop(server);
    let (mut wire, _) = client.into_inner();
    let mut rest = Vec::new();
    wire.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn what_was_cut_is_waited_for_and_what_is_new_is_not() {
    let witness = Restores::new();
    let mut connections = Connections::new(witness.clone());
    let mut old = connections.begin();
    connections.drain().await; // nothing to do
    assert!(!old.cut.has_changed().unwrap());

    witness.restore();
    let new = connections.begin();
    old.cut.changed().await.unwrap();
    assert!(old.mark != new.mark);
    let moment = Duration::from_millis(20);
    assert!(
        timeout(moment, connections.drain()).await.is_err(),
        "it goes on"
    );
    drop(old);
    connections.drain().await;
    assert!(!new.cut.has_changed().unwrap());
}
