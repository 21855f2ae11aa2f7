// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A connection that nothing leaves, and nothing enters, once the generation has changed.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use sysgenid::{Uniqueness, Witness};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Lies under TLS, and looks at the generation at each system call: between the change and the
/// moment that somebody cuts the connection, no record is sent that another clone might encrypt
/// with the same key and the same nonce. Not even TLS's goodbye. And no request is taken.
pub(crate) struct Fenced<S, W> {
    stream: S,
    witness: W,
    /// When the connection was accepted, before there was a key.
    mark: Uniqueness,
}

impl<S, W: Witness> Fenced<S, W> {
    pub(crate) fn new(stream: S, witness: W, mark: Uniqueness) -> Self {
        Self {
            stream,
            witness,
            mark,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.witness.mark() == self.mark {
            return Ok(());
        }
        let message = "the keys of this connection are of another generation";
        Err(io::Error::new(ErrorKind::ConnectionAborted, message))
    }
}

impl<S: AsyncRead + Unpin, W: Witness + Unpin> AsyncRead for Fenced<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.check()?; // afterwards: what came after the change is not taken
        read
    }
}

impl<S: AsyncWrite + Unpin, W: Witness + Unpin> AsyncWrite for Fenced<S, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
