// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A tower layer that refuses requests from a change of the generation on, until what must be
//! unique has been rebuilt.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::task::{Context, Poll, ready};

use axum::http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use pin_project_lite::pin_project;
use sysgenid::{Generation, Probe};
use tower::{Layer, Service};

/// When a client may come again, in seconds.
const LATER: HeaderValue = HeaderValue::from_static("1");

/// Answers `503 Service Unavailable` unless the generation is the one that it was last
/// [opened](Self::open) for. It looks at the counter itself, by a load for each request, and so
/// refuses from the change on, before anybody was told of it.
#[derive(Clone, Debug)]
pub(crate) struct RefuseWhileOutdated {
    probe: Arc<Probe>,
    open_for: Arc<AtomicU64>,
}

impl RefuseWhileOutdated {
    /// Refuses everything at first. Take the probe of the watcher that handles the changes.
    pub(crate) fn new(probe: Probe) -> Self {
        let another = !probe.generation().get();
        Self {
            probe: Arc::new(probe),
            open_for: Arc::new(AtomicU64::new(another)),
        }
    }

    /// Serves in this generation, for which everything has been rebuilt. If it is over by now,
    /// nothing is served.
    pub(crate) fn open(&self, generation: Generation) {
        // Release, for the Acquire in `enter`: whoever is let in sees what was rebuilt before this.
        self.open_for.store(generation.get(), Ordering::Release);
    }

    fn enter(&self) -> Option<Generation> {
        // Acquire: see `open`.
        let open_for = self.open_for.load(Ordering::Acquire);
        Some(self.probe.generation()).filter(|generation| generation.get() == open_for)
    }
}

impl<S> Layer<S> for RefuseWhileOutdated {
    type Service = Refusing<S>;

    fn layer(&self, service: S) -> Refusing<S> {
        Refusing {
            gate: self.clone(),
            service,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Refusing<S> {
    gate: RefuseWhileOutdated,
    service: S,
}

impl<S, B, C: Default> Service<Request<B>> for Refusing<S>
where
    S: Service<Request<B>, Response = Response<C>>,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let entered = self.gate.enter();
        Answer {
            answering: entered.map(|_| self.service.call(request)),
            entered,
            gate: self.gate.clone(),
        }
    }
}

pin_project! {
    pub(crate) struct Answer<F> {
        #[pin]
        answering: Option<F>,
        entered: Option<Generation>,
        gate: RefuseWhileOutdated,
    }
}

impl<F, C: Default, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<C>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(answering) = this.answering.as_pin_mut() else {
            return Poll::Ready(Ok(refusal()));
        };
        let answer = ready!(answering.poll(cx))?;
        // What was answered across a change may have been made of what every clone has, so it is
        // not given away. What the handler did is done: a client that comes again must be able to.
        fence(Ordering::Acquire); // the look comes after all that the handler read
        let unchanged = *this.entered == Some(this.gate.probe.generation());
        Poll::Ready(Ok(if unchanged { answer } else { refusal() }))
    }
}

fn refusal<C: Default>() -> Response<C> {
    let mut refusal = Response::new(C::default());
    *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    refusal.headers_mut().insert(RETRY_AFTER, LATER);
    refusal
}
