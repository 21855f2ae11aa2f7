// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HTTPS by axum, hyper and rustls, that lets go of all its keys when the generation changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sysgenid::{Bound, Generation, Witness};
use sysgenid_examples::Failure;
use sysgenid_tokio::Watcher;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::connections::{Connection, Connections};
use crate::fence::Fenced;
use crate::tickets::GuardedTickets;

/// A client has this long for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What was cut has this long to end. It ends at once, unless a handler of requests never awaits.
const DRAIN: Duration = Duration::from_secs(5);
/// A broker that has ended is started again within this time.
const RESTART: Duration = Duration::from_secs(60);

pub(crate) struct Server<W> {
    pub(crate) listener: TcpListener,
    pub(crate) tls: TlsAcceptor,
    pub(crate) app: Router,
    pub(crate) tickets: Arc<GuardedTickets<W>>,
    pub(crate) watcher: Watcher,
    pub(crate) witness: W,
}

impl<W: Witness + Clone + Send + Unpin + 'static> Server<W> {
    /// Serves until its watcher fails, or connections do not end when they are cut. Then the
    /// process should end, and its keys with it: nothing is acknowledged that still holds.
    pub(crate) async fn run(mut self) -> Result<Infallible, Failure> {
        let mut connections = Connections::new(self.witness.clone());
        loop {
            tokio::select! {
                biased; // the change first
                changed = self.watcher.changed() => match changed {
                    // Nothing is accepted meanwhile: who connects now waits a moment.
                    Ok(generation) => self.start_over(generation, &mut connections).await?,
                    // The driver has ended, and is started again. The guard and the fences go on
                    // looking without it.
                    Err(error) if error.is_lost() => self.watcher.reconnect(RESTART).await?,
                    Err(error) => return Err(error.into()),
                },
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.serve(stream, connections.begin()),
                    // The client has left, or there are too many open files.
                    Err(_) => sleep(Duration::from_millis(100)).await,
                },
            }
        }
    }

    /// Cuts what is of an earlier generation, waits until the last of it has ended, makes the new
    /// ticket key, and only then acknowledges.
    async fn start_over(
        &self,
        generation: Generation,
        connections: &mut Connections<W>,
    ) -> Result<(), Failure> {
        let drained = timeout(DRAIN, connections.drain()).await;
        drained.map_err(|_| "connections of an earlier generation do not end")?;
        self.tickets.renew()?;
        match self.watcher.acknowledge(generation) {
            Err(error) if error.is_stale() => return Ok(()), // it moved again: told again at once
            acknowledged => acknowledged?,
        }
        println!("generation {generation}: old connections have ended, a new ticket key is made");
        Ok(())
    }

    fn serve(&self, stream: TcpStream, mut connection: Connection) {
        let (witness, mark) = (self.witness.clone(), connection.mark);
        let fenced = Fenced(Bound::unwiped_with_witness(witness, mark, stream));
        let handshake = timeout(HANDSHAKE, self.tls.accept(fenced));
        let app = TowerToHyperService::new(self.app.clone());
        let served = async move {
            // What goes wrong is the client's business: it left, or does not speak TLS.
            if let Ok(Ok(stream)) = handshake.await {
                let mut http = http1::Builder::new();
                let http = http.timer(TokioTimer::new());
                let _ = http.serve_connection(TokioIo::new(stream), app).await;
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // Dropped as it stands, in its handshake or later, and its keys with it. To let it
                // finish would be politer and wrong. A handshake that a snapshot caught ends with
                // keys that each clone has, and with a ticket for more of them. A response, or
                // TLS's goodbye, uses nonces that another clone uses as well.
                _ = connection.cut.changed() => {}
                () = served => {}
            }
        });
    }
}
