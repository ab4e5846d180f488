//! Spans of what leaves the local tier, for those who trace: children of the caller's span, at DEBUG. Without the
//! feature `spans` nothing of it is compiled in, and a local hit never has one.

/// Awaits a future in a span of this name, and records with it what it came to.
macro_rules! spanned {
    ($name:literal, $remote:expr, $operation:expr, $keys:expr, $record:ident, $future:expr) => {{
        #[cfg(feature = "spans")]
        let future = $crate::spans::in_span(
            tracing::debug_span!(
                $name,
                namespace = %$remote.namespace,
                operation = %$operation,
                keys = $keys,
                tier = tracing::field::Empty,
                outcome = tracing::field::Empty,
            ),
            $future,
            $crate::spans::$record,
        );
        #[cfg(not(feature = "spans"))]
        let future = $future;
        future.await
    }};
}

pub(crate) use spanned;

#[cfg(feature = "spans")]
pub(crate) use self::traced::{in_span, outcome, outcomes, read};

#[cfg(feature = "spans")]
mod traced {
    use tracing::{Instrument, Span};

    use crate::{Lookup, Result, Tier};

    pub(crate) async fn in_span<T>(span: Span, future: impl Future<Output = T>, record: impl FnOnce(&Span, &T)) -> T {
        let result = future.instrument(span.clone()).await;
        record(&span, &result);
        result
    }

    /// Records which tier answered a read.
    pub(crate) fn read<V>(span: &Span, result: &Result<Lookup<V>>) {
        outcome(span, result);
        if let Ok(found) = result {
            let tier = match found.tier {
                Tier::Local => "local",
                Tier::Remote => "remote",
                Tier::Origin => "origin",
            };
            span.record("tier", tier);
        }
    }

    /// Records `ok`, or the kind of the error: its text may be long, and is the caller's to log.
    pub(crate) fn outcome<T>(span: &Span, result: &Result<T>) {
        match result {
            Ok(_) => span.record("outcome", "ok"),
            Err(error) => span.record("outcome", tracing::field::debug(error.kind())),
        };
    }

    /// Records `ok`, or the kind of the first error.
    #[allow(clippy::ptr_arg, reason = "the type of what was awaited")]
    pub(crate) fn outcomes<T>(span: &Span, results: &Vec<Result<T>>) {
        match results.iter().find(|result| result.is_err()) {
            Some(failed) => outcome(span, failed),
            None => _ = span.record("outcome", "ok"),
        }
    }
}
