// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The world of one watcher: who takes part, and the steps that each takes.
//!
//! A step is what nobody else can come into: a load, a store, a system call, or a part of one that
//! the kernel does under one lock. Between two steps anybody may take theirs.

mod source;

use crate::acknowledge::{Ack, Hook, Next};
use crate::scene::{Budget, Flaw, Origin, Scene, Source, Use};

/// A generation. The first is 0.
pub(crate) type Number = u8;

/// What the broker leaves in the slot when this generation comes.
pub(crate) fn emptied_for(number: Number) -> Number {
    !number
}

/// A place on somebody's wait queue and in an epoll instance's list of what is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Hooked {
    pub(crate) is_hooked: bool,
    pub(crate) is_listed: bool,
}

/// The broker, or the kernel driver and whoever triggers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SourceAt {
    Idle,
    EmptySlot,
    Store,
    /// At the slot once more, with the page stored.
    LookAtSlot,
    Send,
    Wake,
}

/// What a client tells the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Acknowledge(Number),
    /// A further notice is wanted after this generation.
    Notify(Number),
}

/// Notices that fit into the queue, fewer than there are changes.
const QUEUE: u8 = 2;

/// tokio's I/O driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LoopAt {
    Idle,
    Scanning,
    SetReady,
    WakeTask,
}

/// The task that has the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TaskAt {
    /// `Watcher::open` on a driver, which acknowledges until it is hooked for certain.
    Opening(Number, Ack),
    /// On the broker, and `Watcher::from_fd`.
    Hooking(Hook),
    /// `AsyncFd::new`, or another one. `true`: hooked, and to look.
    Registering(bool),
    Polling,
    LeftWaker,
    Asleep,
    /// `try_changed`, with the tick of the readiness that it was begun for.
    Looking(Look, u8),
    /// `await_next`, as a stream: with a notice to spare, or none; and then telling the broker.
    Trimming(Number, u8),
    ReadingSpare(Number, u8),
    Asking(Number, u8),
    Clearing(u8),
    /// `changed` has returned it, or the stream has.
    Told(Number),
    Acknowledging(Number, Ack),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Look {
    /// At the driver.
    First,
    AtPage,
    AtSlot(Number),
    /// The slot may be that of another generation, which came meanwhile.
    AtPageAgain(Number),
    /// The slot holds the current generation already, or says nothing of it.
    AtConnection(Number),
    /// There is a notice all the same, which is read.
    Late(Number, Ack),
}

/// A thread that acknowledges what it sees in the page, for the same watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OtherAt {
    Idle,
    Acknowledging(Number, Ack),
}

/// For the schedule of a violation, and to see that each step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    ChangeBegins,
    SourceGoesOn,
    BrokerReadsRequest,
    BrokerReadsSlot,
    TaskReadsSpareNotice,
    LoopScans,
    LoopGoesOn,
    TaskGoesOn,
    TaskWakes,
    TaskSeesChange,
    TaskSeesNothing,
    TaskSeesLateNotice,
    TaskAcknowledges,
    TaskIsStale,
    TaskKeepsChange,
    TaskIsCancelled,
    TaskMovesToAnotherLoop,
    OtherSeesPage,
    OtherGoesOn,
}

impl Step {
    /// One that may never come.
    pub(crate) fn is_a_whim(self) -> bool {
        matches!(
            self,
            Self::ChangeBegins
                | Self::BrokerReadsSlot
                | Self::TaskIsCancelled
                | Self::TaskMovesToAnotherLoop
                | Self::OtherSeesPage
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) source: Source,
    pub(crate) flaw: Option<Flaw>,
    task: Use,
    left: Budget,

    /// The counter, as the page shows it.
    pub(crate) page: Number,
    /// What the driver, or the client in its slot, has down as acknowledged.
    pub(crate) acknowledged: Number,
    /// What the watcher itself knows to have acknowledged.
    pub(crate) remembered: Number,
    /// Notices that the client has not read.
    pub(crate) notices: u8,
    /// The broker takes the last one to be unread.
    is_told: bool,
    /// The broker sends the next one all the same.
    tell_again: bool,
    /// Requests that the broker has not read.
    pub(crate) requests: Vec<Request>,

    /// The source's descriptor in the watcher's own epoll instance, level-triggered.
    pub(crate) inner: Hooked,
    /// Whether the watcher takes its place on the driver's wait queue to be certain.
    pub(crate) is_certain: bool,
    /// Whether an acknowledgement has locked the watcher.
    pub(crate) is_locked: bool,
    /// The watcher's descriptor in the event loop's epoll instance, edge-triggered.
    outer: Hooked,

    /// What tokio knows of the descriptor.
    is_ready: bool,
    tick: u8,
    has_waker: bool,
    is_woken: bool,

    source_at: SourceAt,
    loop_at: LoopAt,
    task_at: TaskAt,
    other_at: OtherAt,
    other_saw: Number,

    /// What the stream has yielded last and is outdated by still.
    yielded: Option<Number>,
    /// What the task has acknowledged, unless that was refused, or undone by one that will be. As a
    /// stream, what it was told last.
    handled: Option<Number>,
    repeated: bool,
}

impl World {
    /// A watcher that is being opened by its task.
    pub(crate) fn new(scene: Scene, flaw: Option<Flaw>) -> Self {
        let Scene {
            source,
            origin,
            task,
            left,
        } = scene;
        let is_hooked_for_certain =
            source != Source::Broker && origin == Origin::Opened && flaw != Some(Flaw::HookLater);
        Self {
            source,
            flaw,
            task,
            left,
            page: 0,
            acknowledged: 0,
            remembered: 0,
            notices: 0,
            is_told: false,
            tell_again: false,
            requests: Vec::new(),
            inner: Hooked::default(),
            is_certain: false,
            is_locked: false,
            outer: Hooked::default(),
            is_ready: false,
            tick: 0,
            has_waker: false,
            is_woken: false,
            source_at: SourceAt::Idle,
            loop_at: LoopAt::Idle,
            task_at: if is_hooked_for_certain {
                TaskAt::Opening(0, Ack::of(source))
            } else {
                TaskAt::Hooking(Hook::Take)
            },
            other_at: OtherAt::Idle,
            other_saw: 0,
            yielded: None,
            handled: None,
            repeated: false,
        }
    }

    /// Up to date, or told of the last change as a stream is; and its task asleep.
    pub(crate) fn is_settled(&self) -> bool {
        let is_up_to_date = self.acknowledged == self.page || self.page == 0;
        let is_told = self.yielded == Some(self.page);
        (is_up_to_date || is_told) && self.task_at == TaskAt::Asleep
    }

    pub(crate) fn fault(&self) -> Option<&'static str> {
        self.repeated.then_some("a generation was handled twice")
    }

    /// Each step that somebody can take now, and what it leads to.
    pub(crate) fn next(&self) -> Vec<(Step, Self)> {
        let actors = [
            Self::change,
            Self::source_goes_on,
            Self::broker_reads_slot,
            Self::loop_goes_on,
            Self::task_goes_on,
            Self::task_keeps_change,
            Self::task_is_cancelled,
            Self::task_moves,
            Self::other_goes_on,
        ];
        let take = |actor: fn(&mut Self) -> Option<Step>| {
            let mut world = self.clone();
            actor(&mut world).map(|step| (step, world))
        };
        actors.into_iter().filter_map(take).collect()
    }

    pub(crate) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// What `poll` of the source's own descriptor says.
    pub(crate) fn is_readable(&self) -> bool {
        match self.source {
            Source::Broker => self.notices > 0,
            Source::Driver | Source::FaultyDriver => self.acknowledged != self.page,
        }
    }

    /// Epoll hears of the source's descriptor, and hands it on.
    pub(crate) fn report(&mut self) {
        self.inner.is_listed = true;
        self.outer.is_listed |= self.outer.is_hooked;
    }

    /// Whether a stream says that it waits for the next change.
    fn asks(&self) -> bool {
        self.source == Source::Broker && !self.has(Flaw::StreamKeepsQuiet)
    }

    fn loop_goes_on(&mut self) -> Option<Step> {
        self.loop_at = match self.loop_at {
            LoopAt::Idle if self.outer.is_listed => {
                self.outer.is_listed = false;
                LoopAt::Scanning
            }
            LoopAt::Idle => return None,
            LoopAt::Scanning => {
                let is_ready = self.scan();
                self.loop_at = if is_ready {
                    LoopAt::SetReady
                } else {
                    LoopAt::Idle
                };
                return Some(Step::LoopScans);
            }
            LoopAt::SetReady => {
                self.is_ready = true;
                self.tick += 1;
                LoopAt::WakeTask
            }
            LoopAt::WakeTask => {
                self.is_woken |= std::mem::take(&mut self.has_waker);
                LoopAt::Idle
            }
        };
        Some(Step::LoopGoesOn)
    }

    /// `poll` of the watcher's own epoll instance: what is listed is asked, and taken off the list if
    /// it has nothing to tell.
    fn scan(&mut self) -> bool {
        self.inner.is_listed &= self.is_readable();
        self.inner.is_listed
    }

    fn task_goes_on(&mut self) -> Option<Step> {
        let mut step = Step::TaskGoesOn;
        self.task_at = match self.task_at {
            TaskAt::Opening(number, at) => match self.acknowledge(number, at)? {
                Next::At(at) => TaskAt::Opening(number, at),
                Next::Done(_) if self.is_certain => TaskAt::Registering(false),
                Next::Done(_) => TaskAt::Opening(self.page, Ack::of(self.source)),
            },
            TaskAt::Hooking(at) => match self.hook(at, None) {
                Next::At(at) => TaskAt::Hooking(at),
                Next::Done(is_certain) => {
                    self.is_certain = is_certain;
                    TaskAt::Registering(false)
                }
            },
            TaskAt::Registering(second) => {
                let looks = second != self.has(Flaw::LookBeforeRegistering);
                if looks {
                    self.outer.is_listed |= self.scan();
                } else {
                    self.outer.is_hooked = true;
                }
                if second {
                    TaskAt::Polling
                } else {
                    TaskAt::Registering(true)
                }
            }
            TaskAt::Polling | TaskAt::LeftWaker if self.is_ready => {
                TaskAt::Looking(Look::First, self.tick)
            }
            TaskAt::Polling => {
                self.has_waker = true;
                TaskAt::LeftWaker
            }
            TaskAt::LeftWaker => TaskAt::Asleep,
            TaskAt::Asleep if std::mem::take(&mut self.is_woken) => {
                step = Step::TaskWakes;
                TaskAt::Polling
            }
            TaskAt::Asleep => return None,
            TaskAt::Looking(look, tick) => match self.look(look, &mut step) {
                Next::At(look) => TaskAt::Looking(look, tick),
                Next::Done(found) if self.task == Use::Streams && found == self.yielded => {
                    step = Step::TaskSeesNothing;
                    match found {
                        Some(seen) if self.asks() => TaskAt::Trimming(seen, tick),
                        _ => TaskAt::Clearing(tick),
                    }
                }
                Next::Done(Some(number)) => {
                    step = Step::TaskSeesChange;
                    self.repeated |= self.handled == Some(number);
                    if self.has(Flaw::ClearAfterChange) {
                        self.clear(tick);
                    }
                    if self.task == Use::Streams {
                        (self.yielded, self.handled) = (Some(number), Some(number));
                    }
                    TaskAt::Told(number)
                }
                Next::Done(None) => {
                    step = Step::TaskSeesNothing;
                    self.yielded = None;
                    TaskAt::Clearing(tick)
                }
            },
            TaskAt::Trimming(seen, tick) => {
                if self.notices > 1 && !self.has(Flaw::StreamFillsQueue) {
                    TaskAt::ReadingSpare(seen, tick)
                } else {
                    TaskAt::Asking(seen, tick)
                }
            }
            TaskAt::ReadingSpare(seen, tick) => {
                step = Step::TaskReadsSpareNotice;
                self.notices = self.notices.saturating_sub(1);
                TaskAt::Asking(seen, tick)
            }
            TaskAt::Asking(seen, tick) => {
                self.requests.push(Request::Notify(seen));
                TaskAt::Clearing(tick)
            }
            TaskAt::Clearing(tick) => {
                self.clear(tick);
                TaskAt::Polling
            }
            TaskAt::Told(number) => {
                self.handled = Some(number);
                TaskAt::Acknowledging(number, Ack::of(self.source))
            }
            TaskAt::Acknowledging(number, at) => match self.acknowledge(number, at)? {
                Next::At(at) => TaskAt::Acknowledging(number, at),
                Next::Done(is_current) => {
                    step = if is_current {
                        Step::TaskAcknowledges
                    } else {
                        self.handled = self.handled.filter(|_| self.task == Use::Streams);
                        Step::TaskIsStale
                    };
                    TaskAt::Polling
                }
            },
        };
        Some(step)
    }

    fn clear(&mut self, tick: u8) {
        if self.tick == tick || self.has(Flaw::ClearWithoutTick) {
            self.is_ready = false;
        }
    }

    /// `Watcher::try_changed`.
    fn look(&mut self, at: Look, step: &mut Step) -> Next<Look, Option<Number>> {
        Next::At(match (at, self.source) {
            (Look::First, Source::Broker) => Look::AtPage,
            (Look::First, Source::Driver | Source::FaultyDriver) => {
                return Next::Done(self.is_readable().then_some(self.page));
            }
            (Look::AtPage, _) => Look::AtSlot(self.page),
            (Look::AtSlot(number), _) => {
                if !self.is_late(number) {
                    return Next::At(Look::AtPageAgain(number));
                }
                Look::AtConnection(number)
            }
            (Look::AtConnection(_), _) if self.notices == 0 => return Next::Done(None),
            (Look::AtConnection(number), _) => {
                *step = Step::TaskSeesLateNotice;
                Look::Late(number, Ack::of(self.source))
            }
            (Look::AtPageAgain(number), _) => {
                if self.page == number || self.has(Flaw::PageNotLookedAtAgain) {
                    return Next::Done(Some(number));
                }
                Look::First
            }
            (Look::Late(number, ack), _) => match self.acknowledge(number, ack) {
                Some(Next::At(ack)) => Look::Late(number, ack),
                Some(Next::Done(_)) => Look::First,
                None => at,
            },
        })
    }

    /// An acknowledgement that will be refused may overwrite a newer one.
    pub(crate) fn overwrite(&mut self, number: Number) {
        if number != self.page && self.handled != Some(number) {
            self.handled = None;
        }
    }

    /// Whether the notice is of a generation that was acknowledged before it came.
    fn is_late(&self, number: Number) -> bool {
        let left = self.acknowledged;
        let is_for_another = left != emptied_for(number) && !self.has(Flaw::EmptySlotIsChange);
        let is_acknowledged = left == number || is_for_another && self.remembered == number;
        is_acknowledged && !self.has(Flaw::LateNoticeIsChange)
    }

    /// The stream is asked for the next change before this one is acknowledged.
    fn task_keeps_change(&mut self) -> Option<Step> {
        if self.task != Use::Streams || !matches!(self.task_at, TaskAt::Told(_)) {
            return None;
        }
        self.task_at = TaskAt::Polling;
        Some(Step::TaskKeepsChange)
    }

    /// Its future is dropped, and another one polled.
    fn task_is_cancelled(&mut self) -> Option<Step> {
        let may = matches!(self.task_at, TaskAt::Asleep | TaskAt::Told(_));
        if !may || self.left.cancellations == 0 {
            return None;
        }
        self.left.cancellations -= 1;
        self.has_waker = false;
        self.task_at = TaskAt::Polling;
        Some(Step::TaskIsCancelled)
    }

    /// The watcher is taken out of its `AsyncFd`, and put into another one.
    fn task_moves(&mut self) -> Option<Step> {
        let may = matches!(self.task_at, TaskAt::Asleep | TaskAt::Told(_));
        if !may || self.left.moves == 0 {
            return None;
        }
        self.left.moves -= 1;
        self.outer = Hooked::default();
        // What the loop holds in its hands is for the registration that is gone.
        self.loop_at = LoopAt::Idle;
        (self.is_ready, self.tick) = (false, 0);
        (self.has_waker, self.is_woken) = (false, false);
        // As a stream it knows nothing of what it has yielded before.
        if self.yielded.take().is_some() {
            self.handled = None;
        }
        self.task_at = TaskAt::Registering(false);
        Some(Step::TaskMovesToAnotherLoop)
    }

    fn other_goes_on(&mut self) -> Option<Step> {
        match self.other_at {
            OtherAt::Idle if self.left.looks_of_another > 0 && self.other_saw != self.page => {
                self.left.looks_of_another -= 1;
                self.other_saw = self.page;
                self.other_at = OtherAt::Acknowledging(self.page, Ack::of(self.source));
                Some(Step::OtherSeesPage)
            }
            OtherAt::Idle => None,
            OtherAt::Acknowledging(number, at) => {
                self.other_at = match self.acknowledge(number, at)? {
                    Next::At(at) => OtherAt::Acknowledging(number, at),
                    Next::Done(_) => OtherAt::Idle,
                };
                Some(Step::OtherGoesOn)
            }
        }
    }
}
