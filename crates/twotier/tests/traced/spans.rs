//! What leaves the local tier is a span of the caller's; a local hit is none.

use std::{
    fmt::Debug,
    io,
    sync::{Arc, Mutex},
};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};
use twotier::{BackendError, BackendErrorKind, FaultyBackend, MemoryBackend};

use crate::{
    ALONE,
    support::{over_memory, text},
};

/// Every span that has closed: its parent, its name and its fields.
#[derive(Clone, Default)]
struct Closed(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Closed {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut extensions = span.extensions_mut();
        values.record(extensions.get_mut::<Fields>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let parent = span.parent().map_or("-", |parent| parent.name());
        let fields = span.extensions().get::<Fields>().map(|fields| fields.0.clone()).unwrap_or_default();
        self.0.lock().unwrap().push(format!("{parent} > {}{fields}", span.name()));
    }
}

impl Closed {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn reads_writes_batches_and_loads_are_spans_of_the_callers_and_hits_are_none() {
    let _alone = ALONE.lock().await;
    let closed = Closed::default();
    let _traced = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let cache = over_memory(&MemoryBackend::new()).await;
    closed.taken();

    cache.set("k", "v".to_owned()).await.unwrap();
    assert_eq!(closed.taken(), [r#"- > twotier.write namespace=t operation=set keys=1 outcome="ok""#]);
    cache.get("k").await.unwrap();
    cache.get_many(&["k", "k"]).await.unwrap();
    assert_eq!(closed.taken(), Vec::<String>::new(), "a local hit costs no span");

    assert!(cache.invalidate_local("k"));
    let request = tracing::info_span!("request");
    tracing::Instrument::instrument(cache.get("k"), request).await.unwrap();
    let read = r#"request > twotier.read namespace=t operation=get keys=1 outcome="ok" tier="remote""#;
    assert_eq!(closed.taken(), [read, "- > request"]);

    let load = async |_key: &str| Err::<String, _>(io::Error::other("no row"));
    cache.get_or_load("absent", load).await.unwrap_err();
    let spans = closed.taken();
    assert_eq!(spans[1], "- > twotier.load namespace=t operation=get_or_load keys=1 outcome=Load", "{spans:?}");

    cache.get_many(&["a", "b", "k"]).await.unwrap();
    cache.delete_many(&["a", "b"]).await.unwrap();
    let [read, deleted] = ["get_many", "delete_many"]
        .map(|operation| format!(r#"- > twotier.batch namespace=t operation={operation} keys=2 outcome="ok""#));
    assert_eq!(closed.taken(), [read, deleted]);
}

#[tokio::test]
async fn what_fails_is_the_kind_of_its_error_and_holds_no_value_and_no_key() {
    let _alone = ALONE.lock().await;
    let closed = Closed::default();
    let _traced = tracing::subscriber::set_default(tracing_subscriber::registry().with(closed.clone()));
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    closed.taken();
    faults.fail_next(1, BackendError::new(BackendErrorKind::Unavailable, "gone"));
    cache.set("secret-key", "secret-value".to_owned()).await.unwrap_err();
    let spans = closed.taken();
    assert_eq!(spans, ["- > twotier.write namespace=t operation=set keys=1 outcome=Unavailable"]);
}
