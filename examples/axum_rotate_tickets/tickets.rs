// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A key for session tickets that is never used in another generation than it was made in.

use std::sync::Arc;

use sysgenid::{SharedGuarded, Witness};
use tokio_rustls::rustls::crypto::ring::Ticketer;
use tokio_rustls::rustls::server::ProducesTickets;

/// Set as `ServerConfig::ticketer`. Tickets of before a change are refused: a client that shows
/// one is not turned away, it does a full handshake.
///
/// The guard looks at the generation at each use, so that the old key is out of use before anybody
/// was told of the change. rustls' own ticketer, in the guard, also changes its key by the clock.
#[derive(Debug)]
pub(crate) struct GuardedTickets<W>(SharedGuarded<Arc<dyn ProducesTickets>, W>);

impl<W: Witness> GuardedTickets<W> {
    pub(crate) fn new(witness: W) -> Self {
        Self(SharedGuarded::unwiped_with_witness(
            witness,
            |_generation| Ok(Ticketer::new()?),
        ))
    }

    /// Makes the new key now, if there was a change, and not with the next handshake.
    pub(crate) fn renew(&self) -> sysgenid::Result<()> {
        self.0.with(|_key| ())
    }
}

impl<W: Witness + std::fmt::Debug + Send + Sync> ProducesTickets for GuardedTickets<W> {
    fn enabled(&self) -> bool {
        true // else rustls would keep sessions in memory instead, which a snapshot copies as well
    }

    fn lifetime(&self) -> u32 {
        self.0.with(|key| key.lifetime()).unwrap_or(0)
    }

    /// Without a key, for lack of entropy for example, no ticket is given.
    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.0.with(|key| key.encrypt(session)).ok().flatten()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let session = self.0.with(|key| key.decrypt(ticket)).ok().flatten();
        if session.is_none() {
            println!("server: refused a ticket that its key did not make");
        }
        session
    }
}
