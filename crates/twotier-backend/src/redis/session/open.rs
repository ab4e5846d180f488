//! Making a link: from the socket to the proof that changes are reported on it.
//!
//! Three round trips beside those of TCP and TLS: greetings; reports and what is needed of the server; the proof. Each
//! is one pipeline on both connections at the same time.

use std::{sync::Arc, time::Duration};

use tokio::{time::timeout, try_join};
use twotier_core::{BackendError, BackendErrorKind};

use crate::{
    BackendResult,
    redis::{
        command::{Channels, Reporting},
        listeners::Listeners,
        wire::{self, Loss, Progress, Target},
    },
};

use super::{
    admission::{Admission, Session},
    canary::Canary,
    fence::Fences,
    push::{PushHandler, disconnected},
};

/// How many times `connect_timeout` one attempt takes at most, however lively the server is.
const ATTEMPT: u32 = 10;

/// Makes a link: of one connection where nothing is to be reported, else of two. Returns it with what became of each
/// cache that was there.
///
/// An attempt ends after a silence of the target's `connect_timeout`. It fails too when every cache is refused, for the
/// cause of the first one.
pub(in crate::redis) async fn open(
    target: &Arc<Target>,
    progress: &Arc<Progress>,
    listeners: &Arc<Listeners>,
    fences: &Fences,
) -> BackendResult<(Session, Vec<Admission>)> {
    let silence = target.connect_timeout;
    let attempt = async {
        let mut session = connect(target, progress, listeners).await?;
        let members = listeners.all();
        let admissions = session.admit(&members, Some(fences)).await?;
        match admissions.iter().find_map(|admission| admission.outcome.as_ref().err()) {
            Some(cause) if admissions.iter().all(|admission| admission.outcome.is_err()) => Err(cause.clone()),
            _ => Ok((session, admissions)),
        }
    };
    let unavailable = |message: String| Err(BackendError::new(BackendErrorKind::Unavailable, message));
    match timeout(silence * ATTEMPT, progress.while_alive(silence, attempt)).await {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            let step = progress.step();
            let hint = if step == "the TLS handshake" { "; does the server speak TLS on this port?" } else { "" };
            unavailable(format!("{step} was not answered for {} ms{hint}", silence.as_millis()))
        }
        Err(_elapsed) => unavailable(format!("no link within {} ms", (silence * ATTEMPT).as_millis())),
    }
}

/// Connects, to a primary.
async fn connect(target: &Arc<Target>, progress: &Arc<Progress>, listeners: &Arc<Listeners>) -> BackendResult<Session> {
    let (loss, canary) = (Arc::new(Loss::default()), Arc::new(Canary::new()));
    let channels = Arc::new(Channels::new(Arc::clone(listeners)));
    let plain = || {
        let loss = Arc::clone(&loss);
        wire::connect(target, progress, Arc::clone(&loss), listeners.limit(), move |push| {
            if push.kind == redis::PushKind::Disconnection {
                disconnected(&loss);
            }
        })
    };
    let (tracked, data) = if !listeners.are_reported() {
        let only = plain().await?;
        (only.clone(), only)
    } else {
        let (handler_loss, handler_canary) = (Arc::clone(&loss), Arc::clone(&canary));
        let handler = PushHandler::new(Arc::clone(listeners), handler_canary, Arc::clone(&channels), handler_loss);
        let tracked = wire::connect(target, progress, Arc::clone(&loss), listeners.limit(), move |push| {
            handler.apply(&push);
        });
        try_join!(tracked, plain())?
    };
    tracked.hello().primary()?;
    data.hello().primary()?;
    progress.begin("the test of the server");
    Ok(Session {
        target: Arc::clone(target),
        progress: Arc::clone(progress),
        listeners: Arc::clone(listeners),
        tracked,
        data,
        canary,
        channels,
        reporting: Reporting::None,
        prefixes: Vec::new(),
        may_mget: true,
        fenced: false,
        round_trip: Duration::ZERO,
        run_id: None,
    })
}
