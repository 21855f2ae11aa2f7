// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A gate in front of a service. Nothing here knows what a request is.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{fmt, mem};

use pin_project_lite::pin_project;
use sysgenid::{Gate, Pass, ProcessWide, Stale, Witness};
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A [tower](https://docs.rs/tower) layer that serves nothing while its [`Gate`] is closed: from a
/// change on until the program has handled it.
///
/// A request that comes while the gate is closed is [refused](Self::refuse) or [waits](Self::wait).
/// An answer that a change has overtaken is not given away in either case, because it may have been
/// made of what every clone has: the future fails with [`Stale`]. What the service *did* is done, so a
/// client that asks again must be able to.
///
/// ```
/// # use std::convert::Infallible;
/// use std::sync::Arc;
///
/// use sysgenid::{Gate, Stale};
/// use sysgenid_tokio::GateLayer;
/// use tower::{Layer, Service, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let gate = Arc::new(Gate::new());
/// let echo = service_fn(async |request: u32| Ok::<_, Infallible>(request));
/// let mut echo = GateLayer::refuse(Arc::clone(&gate)).layer(echo);
/// assert_eq!(echo.call(7).await.unwrap(), 7);
///
/// sysgenid::assume_restored();
/// assert!(echo.call(7).await.unwrap_err().is::<Stale>());
///
/// let mark = gate.mark();
/// // … what must be unique is rebuilt …
/// gate.open(mark);
/// assert_eq!(echo.call(7).await.unwrap(), 7);
/// # }
/// ```
///
/// To answer with a status instead, an HTTP service turns the error into a response: with axum by a
/// `HandleErrorLayer` around this, as the project's example `refuse_while_outdated` does.
///
/// # What is not guaranteed
///
/// The body of a response may be sent long after the response was made: what is streamed across a
/// change is not cut by this.
pub struct GateLayer<W = ProcessWide> {
    gate: Arc<Gate<W>>,
    waits: bool,
}

impl<W> GateLayer<W> {
    /// A request fails with [`Stale`] while the gate is closed, and the service does not see it.
    #[must_use]
    pub fn refuse(gate: Arc<Gate<W>>) -> Self {
        Self { gate, waits: false }
    }

    /// A request waits while the gate is closed, for as long as that takes: with a timeout around
    /// this layer, for so long at most.
    #[must_use]
    pub fn wait(gate: Arc<Gate<W>>) -> Self {
        Self { gate, waits: true }
    }
}

impl<W> Clone for GateLayer<W> {
    fn clone(&self) -> Self {
        Self {
            gate: Arc::clone(&self.gate),
            waits: self.waits,
        }
    }
}

impl<W: Witness + fmt::Debug> fmt::Debug for GateLayer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateLayer")
            .field("gate", &self.gate)
            .field("waits", &self.waits)
            .finish()
    }
}

impl<S, W> Layer<S> for GateLayer<W> {
    type Service = Gated<S, W>;

    fn layer(&self, service: S) -> Self::Service {
        Gated {
            layer: self.clone(),
            service,
        }
    }
}

/// A service behind a [`GateLayer`].
pub struct Gated<S, W = ProcessWide> {
    layer: GateLayer<W>,
    service: S,
}

impl<S: Clone, W> Clone for Gated<S, W> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            service: self.service.clone(),
        }
    }
}

impl<S: fmt::Debug, W: Witness + fmt::Debug> fmt::Debug for Gated<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated")
            .field("layer", &self.layer)
            .field("service", &self.service)
            .finish()
    }
}

impl<S, R, W> Service<R> for Gated<S, W>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError>,
    W: Witness + Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Answer<S, R, W>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let step = match self.layer.gate.check() {
            Ok(pass) => Step::Answering {
                answer: self.service.call(request),
                pass,
            },
            Err(_) if self.layer.waits => {
                // The one that is ready goes along, and its clone is to become ready.
                let clone = self.service.clone();
                Step::Waiting {
                    opened: Box::pin(enter(Arc::clone(&self.layer.gate))),
                    service: mem::replace(&mut self.service, clone),
                    request: Some(request),
                }
            }
            Err(stale) => Step::Refused { stale },
        };
        Answer { step }
    }
}

async fn enter<W: Witness + Clone>(gate: Arc<Gate<W>>) -> Pass<W> {
    loop {
        gate.opened().await;
        if let Ok(pass) = gate.check() {
            return pass;
        }
    }
}

pin_project! {
    /// The answer of a [`Gated`] service.
    pub struct Answer<S: Service<R>, R, W = ProcessWide> {
        #[pin]
        step: Step<S, R, W>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S: Service<R>, R, W> {
        Refused { stale: Stale },
        Waiting {
            opened: Pin<Box<dyn Future<Output = Pass<W>> + Send>>,
            service: S,
            request: Option<R>,
        },
        Answering {
            #[pin]
            answer: S::Future,
            pass: Pass<W>,
        },
    }
}

impl<S, R, W> Future for Answer<S, R, W>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    W: Witness,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let next = match step.as_mut().project() {
                StepProjection::Refused { stale } => return Poll::Ready(Err((*stale).into())),
                StepProjection::Answering { answer, pass } => {
                    let answer = ready!(answer.poll(context)).map_err(Into::into)?;
                    pass.check()?;
                    return Poll::Ready(Ok(answer));
                }
                StepProjection::Waiting {
                    opened,
                    service,
                    request,
                } => {
                    let pass = ready!(opened.as_mut().poll(context));
                    match request.take() {
                        Some(request) => Step::Answering {
                            answer: service.call(request),
                            pass,
                        },
                        // The service panicked in the call, and this is polled once more.
                        None => return Poll::Pending,
                    }
                }
            };
            step.set(next);
        }
    }
}

impl<S: Service<R>, R, W> fmt::Debug for Answer<S, R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
