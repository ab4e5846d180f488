//! Several callers at once, and callers that leave.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use tokio::task::{JoinSet, yield_now};

use super::{
    Fixture,
    scope::{Scope, put, put_many, ready, remove, value, values, write},
};
use crate::Backend;

/// A call that starts after another returned takes effect after it, whichever handles they use.
pub async fn a_call_sees_what_earlier_calls_did(fixture: &dyn Fixture) {
    let (scope, first, second) = (Scope::new(), ready(fixture).await, ready(fixture).await);
    let keys = scope.keys(2);
    for round in 0..50 {
        let (writer, reader) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let written = Bytes::from(round.to_string());
        put(writer, &keys[0], &written, None).await;
        assert_eq!(value(reader, &keys[0]).await.as_ref(), Some(&written));
        put_many(reader, &[write(&keys[1], written.clone(), None)]).await;
        assert_eq!(values(writer, &keys).await, [Some(written.clone()), Some(written)]);
        assert!(remove(reader, &keys[0]).await, "the other handle wrote it");
        assert_eq!(value(writer, &keys[0]).await, None);
    }
}

/// Writers on handles of their own leave their last values, and a shared key holds one value whole.
pub async fn concurrent_writers_do_not_mix(fixture: &dyn Fixture) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 50;
    let scope = Scope::new();
    let (own, shared) = (scope.keys(WRITERS), scope.key("shared"));
    // Long enough to be written in pieces, and one letter only, so that a mixture shows.
    let letters = |writer: usize| Bytes::from(vec![b"abcdefgh"[writer]; 5000]);

    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let backend: Arc<dyn Backend> = Arc::from(ready(fixture).await);
        let (own, shared, letters) = (own[writer].clone(), shared.clone(), letters(writer));
        writers.spawn(async move {
            for round in 0..ROUNDS {
                put_many(&backend, &[write(&shared, letters.clone(), None), write(&own, round.to_string(), None)])
                    .await;
                yield_now().await;
                let found = value(&backend, &shared).await.expect("nobody deletes it");
                assert!(found.len() == letters.len() && found.iter().all(|byte| *byte == found[0]), "a mixed value");
                put(&backend, &shared, &letters, None).await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer fails");
    }
    let backend = ready(fixture).await;
    let last = Bytes::from((ROUNDS - 1).to_string());
    assert_eq!(values(&backend, &own).await, vec![Some(last); WRITERS]);
}

/// Calls whose futures are dropped at any point neither hang later calls nor give them another's answer.
pub async fn dropped_futures_disturb_nothing(fixture: &dyn Fixture) {
    const ROUNDS: usize = 60;
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let (dropped, absent) = (scope.keys(ROUNDS), scope.key("absent"));
    let expected = |round: usize| Bytes::from(format!("value of {round}"));
    for round in 0..ROUNDS {
        let polls = round % 6;
        let key = &dropped[round];
        let batch = [write(key, expected(round), None)];
        leave(polls, backend.set(key, expected(round), None)).await;
        leave(polls, backend.get(key)).await;
        leave(polls, backend.get_many(&dropped)).await;
        leave(polls, backend.set_many(&batch)).await;
        leave(polls, backend.delete(&absent)).await;
        leave(polls, backend.delete_many(&dropped[..0])).await;
        leave(polls, backend.clear(&scope.key("nothing"))).await;

        let probe = scope.key(format!("probe {round}"));
        put(&backend, &probe, round.to_string(), None).await;
        assert_eq!(value(&backend, &probe).await, Some(Bytes::from(round.to_string())));
        assert_eq!(values(&backend, &[absent.clone(), probe]).await, [None, Some(Bytes::from(round.to_string()))]);
    }
    for (round, found) in values(&backend, &dropped).await.into_iter().enumerate() {
        assert!(found.is_none_or(|found| found == expected(round)), "a dropped write has landed elsewhere");
    }
}

/// Polls a call so many times and drops it.
async fn leave<T>(polls: usize, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        if ends(call.as_mut()).await {
            return;
        }
        yield_now().await;
    }
}

/// Polls once and returns whether that was the end.
async fn ends<T>(mut call: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await
}

/// Of many that expect the same value one wins: no change is lost between handles that count one up.
pub async fn concurrent_compare_and_sets_lose_nothing(fixture: &dyn Fixture) {
    const WRITERS: usize = 4;
    const ROUNDS: u32 = 25;
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let key = scope.key("count");
    let unsupported = |error: &twotier_core::BackendError| error.kind() == twotier_core::BackendErrorKind::Unsupported;
    if backend.compare_and_set(&key, None, Some(Bytes::from_static(b"0")), None).await.is_err_and(|e| unsupported(&e)) {
        return;
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (key, backend) = (key.clone(), ready(fixture).await);
        writers.spawn(async move {
            for _ in 0..ROUNDS {
                loop {
                    let held = value(&backend, &key).await.expect("it is never removed");
                    let count: u32 = std::str::from_utf8(&held).expect("digits").parse().expect("a number");
                    let next = Bytes::from((count + 1).to_string());
                    if backend.compare_and_set(&key, Some(held), Some(next), None).await.expect("it is answered") {
                        break;
                    }
                }
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends");
    }
    let total = (WRITERS * ROUNDS as usize).to_string();
    assert_eq!(value(&backend, &key).await, Some(Bytes::from(total)));
}
