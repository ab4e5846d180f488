//! The breakers of a cache: one for each link, and what their changes set off.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use twotier_backend::BackendResult;
use twotier_core::{
    BackendError, BackendErrorKind, BreakerState, BreakerStats, Error, LinkId, LinkStatus, Namespace, Operation,
};

use super::{
    Remote,
    breaker::{Breaker, BreakerOptions, Change, Verdict},
};
use crate::{Result, events::EventSender, log::Occasional, meter::Call};

/// Decides which calls are made, link by link.
///
/// While every link answers, a call costs two loads of one counter that nobody writes to.
pub(crate) struct Breakers {
    /// How many breakers are open, or have seen a failure since the last answer.
    loud: AtomicUsize,
    options: BreakerOptions,
    only: LinkBreaker,
    others: RwLock<HashMap<LinkId, Arc<LinkBreaker>>>,
    refused: AtomicU64,
    namespace: Namespace,
    events: EventSender,
    /// The links that the backend has now, and how they are.
    links: LinksNow,
    /// Called when a backend that did not answer does so again, outside every lock.
    answers_again: AnswersAgain,
    opened: Occasional,
    /// Looks at links that are no more, while there are calls.
    looked: Occasional,
    /// Whether there is a line to which that of the return belongs.
    logged: AtomicBool,
}

type LinksNow = Box<dyn Fn() -> Vec<LinkStatus> + Send + Sync>;
type AnswersAgain = Box<dyn Fn() + Send + Sync>;

struct LinkBreaker {
    link: LinkId,
    breaker: Mutex<Breaker>,
}

/// Over which links the keys of one call lie.
#[derive(Clone, Debug)]
pub(crate) enum Links {
    One(LinkId),
    Many(Box<[LinkId]>),
}

/// The leave to make a call. One that is dropped before anything was answered was in vain.
#[derive(Default)]
#[must_use = "the call is in vain once this is dropped"]
pub(crate) struct Pass {
    trial: Option<Box<Trial>>,
}

/// A call that is made to see whether it is answered.
struct Trial {
    breakers: Arc<Breakers>,
    link: LinkId,
    number: u64,
    /// Those of further links.
    _more: Pass,
}

impl Pass {
    /// Returns whether the call is made to see whether it is answered.
    pub(super) fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let Self { breakers, link, number, .. } = self;
        breakers.change(*link, |breaker, now| {
            breaker.gave_up(*number, now);
            None
        });
    }
}

impl Links {
    pub(crate) fn of(links: impl IntoIterator<Item = LinkId>) -> Self {
        let mut links = links.into_iter();
        let first = links.next().unwrap_or(LinkId::ONLY);
        let mut many = Vec::new();
        for link in links {
            if link != first && !many.contains(&link) {
                many.push(link);
            }
        }
        if many.is_empty() {
            return Self::One(first);
        }
        many.push(first);
        Self::Many(many.into())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = LinkId> {
        match self {
            Self::One(link) => std::slice::from_ref(link).iter().copied(),
            Self::Many(links) => links.iter().copied(),
        }
    }
}

impl Breakers {
    pub(crate) fn new(
        options: BreakerOptions,
        namespace: Namespace,
        events: EventSender,
        (links, answers_again): (LinksNow, AnswersAgain),
    ) -> Arc<Self> {
        Arc::new(Self {
            loud: AtomicUsize::new(0),
            options,
            only: LinkBreaker::new(LinkId::ONLY, options),
            others: RwLock::default(),
            refused: AtomicU64::new(0),
            namespace,
            events,
            links,
            answers_again,
            opened: Occasional::default(),
            looked: Occasional::default(),
            logged: AtomicBool::new(false),
        })
    }

    /// Returns whether every link has answered what it was asked last.
    #[inline]
    pub(crate) fn are_quiet(&self) -> bool {
        self.loud.load(Ordering::Acquire) == 0
    }

    /// Lets a call pass, or says why it is not made.
    pub(crate) fn pass(self: &Arc<Self>, links: &Links) -> BackendResult<Pass> {
        let mut pass = Pass::default();
        if self.are_quiet() {
            return Ok(pass);
        }
        if self.looked.due().is_some() {
            self.forget_gone();
        }
        for link in links.iter() {
            let verdict = self.with(link, |breaker| breaker.lock().decide(Instant::now()));
            match verdict {
                Some(Verdict::Refuse(refusal)) => return Err(refusal),
                Some(Verdict::Try(number)) => {
                    let trial = Trial { breakers: Arc::clone(self), link, number, _more: std::mem::take(&mut pass) };
                    pass = Pass { trial: Some(Box::new(trial)) };
                }
                Some(Verdict::Make) | None => {}
            }
        }
        Ok(pass)
    }

    /// Returns why a call over this link would not be made, and tries none.
    pub(crate) fn refusal(&self, link: LinkId) -> Option<BackendError> {
        if self.are_quiet() {
            return None;
        }
        self.with(link, |breaker| breaker.lock().refusal(Instant::now())).flatten()
    }

    /// Something was answered over a link.
    #[inline]
    pub(crate) fn answered(&self, link: LinkId) {
        if !self.are_quiet() {
            self.change(link, Breaker::answered);
        }
    }

    /// A call over a link that began then has failed without an answer.
    #[cold]
    pub(crate) fn failed(&self, link: LinkId, began: Instant, cause: &BackendError) {
        if self.options.failures > 0 {
            self.make(link);
            self.change(link, |breaker, now| breaker.failed(began, now, cause));
        }
    }

    /// Nobody waits for a call any more.
    #[cold]
    pub(crate) fn timed_out(&self, links: &Links) {
        let silence = BackendError::new(BackendErrorKind::Timeout, "no answer within the operation timeout");
        let now = Instant::now();
        let began = now.checked_sub(self.options.patience).unwrap_or(now);
        links.iter().for_each(|link| self.failed(link, began, &silence));
    }

    /// A link gave a sign of life.
    pub(crate) fn showed_life(&self, link: LinkId) {
        if !self.are_quiet() {
            self.change(link, |breaker, now| {
                breaker.showed_life(now);
                None
            });
        }
    }

    /// Returns why calls are not made over links from which no sign of life came since.
    pub(crate) fn outages(&self) -> Vec<(LinkId, BackendError)> {
        let mut outages = Vec::new();
        if !self.are_quiet() {
            self.forget_gone();
            self.each(|breaker| {
                if let Some(cause) = breaker.breaker.lock().outage() {
                    outages.push((breaker.link, cause));
                }
            });
        }
        outages
    }

    pub(crate) fn stats(&self) -> BreakerStats {
        if !self.are_quiet() {
            self.forget_gone();
        }
        let mut stats = BreakerStats::default();
        let now = Instant::now();
        self.each(|breaker| {
            let breaker = breaker.breaker.lock();
            stats.state = stats.state.max(breaker.state(now));
            stats.opened += breaker.opened();
        });
        stats.refused = self.refused.load(Ordering::Relaxed);
        stats
    }

    /// Forgets the silence of links that the backend has no more, such as that of a primary which was replaced: nothing
    /// is sent over them that could end it.
    fn forget_gone(&self) {
        let gone: Vec<LinkId> = {
            let links = (self.links)();
            let is_gone = |link: &&LinkId| links.iter().all(|status| status.link != **link);
            self.others.read().keys().filter(is_gone).copied().collect()
        };
        for link in gone {
            self.change(link, |breaker, _now| {
                breaker.forget();
                None
            });
        }
    }

    fn with<R>(&self, link: LinkId, act: impl FnOnce(&Mutex<Breaker>) -> R) -> Option<R> {
        if link == LinkId::ONLY {
            return Some(act(&self.only.breaker));
        }
        let breaker = self.others.read().get(&link).cloned();
        breaker.map(|breaker| act(&breaker.breaker))
    }

    fn each(&self, mut act: impl FnMut(&LinkBreaker)) {
        act(&self.only);
        let others: Vec<_> = self.others.read().values().cloned().collect();
        others.iter().for_each(|breaker| act(breaker));
    }

    /// Makes the breaker of a link that has none yet.
    fn make(&self, link: LinkId) {
        if link != LinkId::ONLY && !self.others.read().contains_key(&link) {
            self.others.write().entry(link).or_insert_with(|| Arc::new(LinkBreaker::new(link, self.options)));
        }
    }

    /// Changes a breaker that there is, and notifies of what that sets off, outside its lock.
    fn change(&self, link: LinkId, change: impl FnOnce(&mut Breaker, Instant) -> Option<Change>) {
        let changed = self.with(link, |breaker| {
            let mut breaker = breaker.lock();
            let was_quiet = breaker.is_quiet();
            let changed = change(&mut breaker, Instant::now());
            match (was_quiet, breaker.is_quiet()) {
                (true, false) => _ = self.loud.fetch_add(1, Ordering::AcqRel),
                (false, true) => _ = self.loud.fetch_sub(1, Ordering::AcqRel),
                _ => {}
            }
            changed
        });
        if let Some(Some(changed)) = changed {
            self.announce(link, changed);
        }
    }

    fn announce(&self, link: LinkId, change: Change) {
        let namespace = &self.namespace;
        match change {
            Change::Opened(cause) => {
                // A lost link is logged already, once for all of its caches.
                let is_up = (self.links)().iter().any(|status| status.link == link && status.state.is_up());
                let due = is_up.then(|| self.opened.due()).flatten();
                self.logged.fetch_or(due.is_some(), Ordering::Relaxed);
                match due {
                    Some(times) => tracing::warn!(
                        %namespace, %link, %cause, times,
                        "the backend does not answer: calls fail at once until it does"
                    ),
                    None => tracing::debug!(%namespace, %link, %cause, "the breaker opened"),
                }
                self.events.breaker(link, BreakerState::Open, Some(cause));
            }
            Change::Closed(after) => {
                (self.answers_again)();
                let after = after.as_millis();
                match self.logged.swap(false, Ordering::Relaxed) {
                    true => tracing::info!(%namespace, %link, after, "the backend answers again"),
                    false => tracing::debug!(%namespace, %link, after, "the breaker closed"),
                }
                self.events.breaker(link, BreakerState::Closed, None);
            }
        }
    }
}

impl LinkBreaker {
    fn new(link: LinkId, options: BreakerOptions) -> Self {
        Self { link, breaker: Mutex::new(Breaker::new(options)) }
    }
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Lets a call pass, or fails it at once because the backend does not answer.
    pub(crate) fn pass(&self, operation: Operation, call: Call, links: &Links) -> Result<Pass> {
        self.breakers.pass(links).map_err(|refusal| self.not_made(operation, call, refusal))
    }

    /// Returns why a call over a link is not made, if it is not to be waited for.
    #[inline]
    pub(crate) fn refused_over(
        &self,
        operation: Operation,
        call: Call,
        link: impl FnOnce() -> LinkId,
    ) -> Option<Error> {
        if self.breakers.are_quiet() {
            return None;
        }
        Some(self.not_made(operation, call, self.breakers.refusal(link())?))
    }

    /// Returns, key by key, why a call about it would not be made; `None` when all of them would.
    pub(crate) fn refusals(
        &self,
        operation: Operation,
        call: Call,
        links: impl Iterator<Item = LinkId>,
    ) -> Option<Vec<Option<Error>>> {
        if self.breakers.are_quiet() {
            return None;
        }
        let refusal = |link| Some(self.not_made(operation, call, self.breakers.refusal(link)?));
        Some(links.map(refusal).collect())
    }

    fn not_made(&self, operation: Operation, call: Call, refusal: BackendError) -> Error {
        self.breakers.refused.fetch_add(1, Ordering::Relaxed);
        self.meter.refused(call, refusal.kind().into());
        self.backend_failed(operation, refusal)
    }

    /// Makes a call over one link, counts it, and notes whether it was answered.
    pub(crate) async fn call<T>(
        &self,
        call: Call,
        link: LinkId,
        future: impl Future<Output = BackendResult<T>>,
    ) -> BackendResult<T> {
        let started = self.meter.start(call);
        let result = future.await;
        self.ended_call(call, link, started, &result);
        result
    }

    /// Notes why a write could not even be sent.
    #[cold]
    pub(super) fn unready(&self, links: &Links, why: &Error) {
        if let Error::Backend { source, .. } = why
            && let Received::Silence(cause) = received::<()>(&Err(source.clone()))
            && !self.runtime.has_ended()
        {
            let now = Instant::now();
            links.iter().for_each(|link| self.breakers.failed(link, now, cause));
        }
    }

    /// Ends a call over one link.
    pub(crate) fn ended_call<T>(&self, call: Call, link: LinkId, started: Instant, result: &BackendResult<T>) {
        self.meter.end(call, started, crate::meter::failure(result));
        match received(result) {
            // One that came too late for its caller is none: it would have the next one wait in vain, too.
            Received::Reply if self.breakers.are_quiet() || started.elapsed() < self.settings.op_timeout => {
                self.breakers.answered(link);
            }
            Received::Reply => {}
            Received::Silence(cause) => self.breakers.failed(link, started, cause),
            Received::Nothing => {}
        }
    }

    /// Makes a call for many keys, each over its link, and counts it as one.
    pub(crate) async fn call_for_many<T>(
        &self,
        call: Call,
        links: &[LinkId],
        future: impl Future<Output = Vec<BackendResult<T>>>,
    ) -> Vec<BackendResult<T>> {
        let started = self.meter.start(call);
        let results = future.await;
        self.meter.end(call, started, crate::meter::any_failure(&results));
        let mut silent = Silent::default();
        for (link, result) in links.iter().zip(&results) {
            silent.note(&self.breakers, *link, result, || true);
        }
        silent.end(&self.breakers, started);
        results
    }

    pub(crate) fn breaker_stats(&self) -> BreakerStats {
        self.breakers.stats()
    }
}

/// The links of a batch over which nothing was answered: a batch fails once, however many keys it has.
#[derive(Default)]
pub(super) struct Silent(Vec<(LinkId, BackendError)>);

impl Silent {
    /// Notes the result of one key. One that came too late for its caller is no answer, as in
    /// [`ended_call`](Remote::ended_call).
    pub(super) fn note<T>(
        &mut self,
        breakers: &Breakers,
        link: LinkId,
        result: &BackendResult<T>,
        in_time: impl FnOnce() -> bool,
    ) {
        match received(result) {
            Received::Reply if breakers.are_quiet() || in_time() => breakers.answered(link),
            Received::Reply => {}
            Received::Silence(cause) if self.0.iter().all(|(other, _)| *other != link) => {
                self.0.push((link, cause.clone()));
            }
            Received::Silence(_) | Received::Nothing => {}
        }
    }

    /// The batch, which began then, has ended.
    pub(super) fn end(self, breakers: &Breakers, started: Instant) {
        for (link, cause) in self.0 {
            breakers.failed(link, started, &cause);
        }
    }
}

enum Received<'e> {
    /// The backend is there, be it to refuse.
    Reply,
    Silence(&'e BackendError),
    /// Not a word about whether it is there.
    Nothing,
}

fn received<T>(result: &BackendResult<T>) -> Received<'_> {
    match result {
        Ok(_) => Received::Reply,
        Err(error) => match error.kind() {
            BackendErrorKind::Unavailable | BackendErrorKind::Timeout => Received::Silence(error),
            BackendErrorKind::Closed | BackendErrorKind::Protocol => Received::Nothing,
            // Refusals.
            _ => Received::Reply,
        },
    }
}
