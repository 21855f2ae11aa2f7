// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client that shows what the server does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use sysgenid_examples::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Keeps the tickets that it is given, as a browser does.
pub(crate) struct Visitor {
    tls: Arc<ClientConfig>,
    server: SocketAddr,
}

impl Visitor {
    pub(crate) fn new(
        server: SocketAddr,
        trusted: CertificateDer<'static>,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted)?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Arc::new(tls),
            server,
        })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let stream = TcpStream::connect(self.server).await?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        Ok(connector.connect(name()?, stream).await?)
    }

    /// One request on a connection of its own.
    pub(crate) async fn visit(&self) -> Result<(), Failure> {
        let mut stream = self.connect().await?;
        stream.write_all(LAST_REQUEST).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let kind = stream.get_ref().1.handshake_kind();
        let kind = kind.ok_or("no handshake")?;
        let status = answer.lines().next().unwrap_or_default();
        println!("client: {kind:?} handshake, {status}");
        Ok(())
    }

    /// A connection that stays open after its first request.
    pub(crate) async fn stay(&self) -> Result<TlsStream<TcpStream>, Failure> {
        let mut stream = self.connect().await?;
        stream.write_all(REQUEST).await?;
        let mut answer = [0; 512];
        match stream.read(&mut answer).await? {
            0 => Err("no answer".into()),
            _ => Ok(stream),
        }
    }

    /// A handshake up to the server's part of it: only this client's last message is missing.
    pub(crate) async fn begin_handshake(&self) -> Result<TcpStream, Failure> {
        let mut stream = TcpStream::connect(self.server).await?;
        let mut tls = ClientConnection::new(Arc::clone(&self.tls), name()?)?;
        while tls.is_handshaking() {
            let mut message = Vec::new();
            tls.write_tls(&mut message)?;
            stream.write_all(&message).await?;
            let mut answer = [0; 4096];
            let length = stream.read(&mut answer).await?;
            tls.read_tls(&mut answer.get(..length).unwrap_or_default())?;
            tls.process_new_packets()?;
        }
        Ok(stream)
    }
}

/// Whether the server has closed, rather than sent.
pub(crate) async fn is_closed(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest).await {
        Ok(_) => rest.is_empty(),
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

fn name() -> Result<ServerName<'static>, Failure> {
    Ok(ServerName::try_from("localhost")?)
}
