// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A connection that nothing leaves, and nothing enters, once the generation has changed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use sysgenid::{Bound, Witness};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Lies under TLS, and is bound to the moment before there was a key: between the change and the
/// moment that the connection is cut, no record is sent that another clone might encrypt with the same
/// key and the same nonce. Not even TLS's goodbye. And no request is taken.
pub(crate) struct Fenced<S, W>(pub(crate) Bound<S, W>);

impl<S: Unpin, W: Witness> Fenced<S, W> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        Ok(Pin::new(self.0.get_mut()?))
    }
}

impl<S: AsyncRead + Unpin, W: Witness + Unpin> AsyncRead for Fenced<S, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.stream()?.poll_read(cx, buffer);
        self.0.check()?; // what came after the change is not taken
        read
    }
}

impl<S: AsyncWrite + Unpin, W: Witness + Unpin> AsyncWrite for Fenced<S, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.get().is_ok_and(S::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
