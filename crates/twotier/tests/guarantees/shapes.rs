//! What people write first compiles, and does what it says.

use std::{collections::HashMap, io, num::NonZeroU64, sync::Arc, time::Duration};

use futures_util::future::{join_all, try_join_all};
use twotier::{Backend, Cache, ErrorKind, Key, KeyText, Loaded, MemoryBackend, Tier};

async fn names() -> Cache<String> {
    Cache::builder().namespace("names").build(MemoryBackend::new()).await.unwrap()
}

async fn numbers() -> Cache<u64> {
    Cache::builder().namespace("numbers").build(MemoryBackend::new()).await.unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("no row {0}")]
struct NoRow(u64);

async fn row(id: u64) -> Result<String, NoRow> {
    if id < 100 { Ok(format!("row {id}")) } else { Err(NoRow(id)) }
}

#[tokio::test]
async fn a_key_is_a_string_an_integer_a_uuid_a_tuple_or_a_type_of_ones_own() {
    struct UserId(u64);
    impl Key for UserId {
        fn write(&self, text: &mut KeyText) {
            self.0.write(text);
        }
    }
    let backend = MemoryBackend::new();
    let cache: Cache<String> = Cache::builder().namespace("names").build(backend.clone()).await.unwrap();
    cache.set("text", "1").await.unwrap();
    cache.set(String::from("owned"), "1").await.unwrap();
    cache.set(&String::from("borrowed"), "1").await.unwrap();
    cache.set(Arc::<str>::from("shared"), "1").await.unwrap();
    cache.set(-42, "1").await.unwrap();
    cache.set(NonZeroU64::new(7).unwrap(), "1").await.unwrap();
    cache.set(("team", 7, "a:b"), "1").await.unwrap();
    cache.set(UserId(99), "1").await.unwrap();
    cache.set(uuid::Uuid::nil(), "1").await.unwrap();
    let mut keys = cache.hot_keys(100);
    keys.sort();
    let nil = "00000000-0000-0000-0000-000000000000";
    assert_eq!(keys, ["-42", nil, "7", "99", "borrowed", "owned", "shared", "team:7:a%3Ab", "text"]);
    let found = backend.get(b"names:team:7:a%3Ab").await.unwrap().unwrap();
    assert_eq!(found.value, "\"1\"");
    // By every method that takes one.
    assert!(cache.get(7_u8).await.unwrap().is_some() && cache.get_if_local(UserId(7)).is_some());
    assert!(cache.lookup(("team", 7, "a:b")).await.unwrap().value.is_some());
    assert!(cache.delete(7).await.unwrap() && cache.invalidate_local(7), "the absence is known");
    assert_eq!(cache.get_many(&[-42, 99]).await.unwrap().iter().flatten().count(), 2);
    assert_eq!(cache.delete_many(&[("team", 7, "a:b"), ("team", 8, "")]).await.unwrap(), 1);
    assert_eq!(cache.warm(&[UserId(99), UserId(100)]).await.unwrap(), 1);
    cache.update(99, |held| held.map(|held| held.clone() + "2")).await.unwrap();
    assert_eq!(*cache.get("99").await.unwrap().unwrap(), "12");
}

#[tokio::test]
async fn a_value_is_given_as_it_is_in_an_arc_or_as_a_string() {
    let cache = names().await;
    cache.set("k", "v").await.unwrap();
    cache.set("k", "v".to_owned()).await.unwrap();
    cache.set("k", Arc::new("v".to_owned())).await.unwrap();
    cache.set("k", std::borrow::Cow::Borrowed("v")).await.unwrap();
    cache.set_many([(1, "one"), (2, "two")]).await.unwrap();
    assert_eq!(cache.get_many(&[2, 1]).await.unwrap().iter().flatten().count(), 2);
    let numbers = numbers().await;
    numbers.set("k", 5).await.unwrap();
    let five: u64 = *numbers.get("k").await.unwrap().unwrap();
    assert_eq!(five, 5);
    let options: Cache<Option<u8>> = Cache::builder().namespace("o").build(MemoryBackend::new()).await.unwrap();
    options.set("k", Some(1)).await.unwrap();
    assert_eq!(*options.get("k").await.unwrap().unwrap(), Some(1));
}

#[tokio::test]
async fn a_loader_is_given_the_key_as_the_caller_has_it() {
    let cache = names().await;
    assert_eq!(*cache.get_or_load(42, row).await.unwrap(), "row 42");
    assert_eq!(*cache.get_or_load(43, row).await.unwrap(), "row 43");
    let owned = String::from("owned");
    let found = cache.get_or_load(&owned, async |key: &String| Ok::<_, io::Error>(key.clone())).await.unwrap();
    assert_eq!(*found, "owned");
    let found = cache.get_or_load(("team", 7), async |(kind, id)| Ok::<_, io::Error>(format!("{kind} {id}"))).await;
    assert_eq!(*found.unwrap(), "team 7");
    let ids = [42, 44, 45];
    let rows =
        async |missing: Vec<u64>| try_join_all(missing.iter().map(|&id| async move { Ok((id, row(id).await?)) })).await;
    let found = cache.get_many_or_load(&ids, async |ids| rows(ids).await as Result<_, NoRow>).await.unwrap();
    assert_eq!(found.iter().flatten().map(|row| row.as_str()).collect::<Vec<_>>(), ["row 42", "row 44", "row 45"]);
}

#[tokio::test]
async fn a_loader_may_find_nothing_or_say_how_long_its_value_lives() {
    let backend = MemoryBackend::new();
    let cache: Cache<String> = Cache::builder().namespace("n").build(backend.clone()).await.unwrap();
    let optional = async |id: u64| row(id).await.map(Some).or(Ok::<_, io::Error>(None));
    assert_eq!(cache.get_or_load(1, optional).await.unwrap().as_deref(), Some(&"row 1".to_owned()));
    let absent: Option<Arc<String>> = cache.get_or_load(100, optional).await.unwrap();
    assert_eq!((absent, backend.get(b"n:100").await.unwrap()), (None, None), "nothing is stored of an absence");
    // Somebody else's absence is none for a loader that always has a value.
    assert_eq!(*cache.get_or_load(100, async |id| Ok::<_, io::Error>(format!("new {id}"))).await.unwrap(), "new 100");

    let brief = Duration::from_secs(30);
    let found: Arc<String> = cache.get_or_load(2, async |id| Ok::<_, NoRow>((row(id).await?, brief))).await.unwrap();
    assert_eq!(*found, "row 2");
    let loaded = async |id| Ok::<_, NoRow>(Loaded::new(row(id).await?).time_to_live(brief));
    assert!(cache.get_or_load(3, loaded).await.unwrap().is_some());
    let many = async |ids: Vec<u64>| Ok::<_, io::Error>(ids.into_iter().map(|id| (id, ("v".to_owned(), brief))));
    cache.get_many_or_load(&[4, 5], many).await.unwrap();
    for id in 2..=5 {
        let stored = backend.get(format!("n:{id}").as_bytes()).await.unwrap().unwrap();
        assert!(stored.ttl.cap(Duration::MAX) <= Some(brief), "{id}: {:?}", stored.ttl);
    }
    assert_eq!(cache.get_or_load(6, async |_| Ok::<_, io::Error>(Loaded::absent())).await.unwrap(), None);
}

#[tokio::test]
async fn lookup_or_load_says_where_the_value_came_from() {
    let backend = MemoryBackend::new();
    let cache: Cache<String> = Cache::builder().namespace("n").build(backend.clone()).await.unwrap();
    let tier = async |id| cache.lookup_or_load(id, row).await.map(|found| (found.tier, found.value.is_some()));
    assert_eq!(tier(1).await.unwrap(), (Tier::Origin, true));
    let commands = backend.operations();
    assert_eq!(tier(1).await.unwrap(), (Tier::Local, true));
    assert_eq!(backend.operations(), commands, "a local hit reached the backend");
    cache.clear_local();
    assert_eq!(tier(1).await.unwrap(), (Tier::Remote, true));
    let none = cache.lookup_or_load(7, async |_| Ok::<Option<String>, io::Error>(None)).await.unwrap();
    assert_eq!((none.tier, none.value), (Tier::Origin, None));
}

#[tokio::test]
async fn a_loaders_error_comes_back_by_its_type() {
    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error(transparent)]
        Cache(#[from] twotier::Error),
        #[error(transparent)]
        Row(#[from] NoRow),
    }
    let cache = names().await;
    let by_question_mark = async || -> Result<Arc<String>, Failure> { Ok(cache.get_or_load(100, row).await?) };
    let Failure::Cache(error) = by_question_mark().await.unwrap_err() else { panic!("it is the cache's") };
    assert_eq!((error.kind(), error.loader_error()), (ErrorKind::Load, Some(&NoRow(100))));
    assert!(error.loader_error::<io::Error>().is_none());
    let direct: Result<String, Failure> = row(100).await.map_err(Into::into);
    assert!(matches!(direct, Err(Failure::Row(NoRow(100)))));

    // Through the caller's `anyhow`.
    let through = async || -> anyhow::Result<Arc<String>> { Ok(cache.get_or_load(101, row).await?) };
    let error = through().await.unwrap_err();
    let found = error.downcast_ref::<twotier::Error>().and_then(twotier::Error::loader_error);
    assert_eq!(found, Some(&NoRow(101)));
    assert!(error.chain().any(|cause| cause.downcast_ref() == Some(&NoRow(101))));

    // Through the loader's `anyhow`, with a context around it.
    let loader = async |id| {
        let row = row(id).await.map_err(anyhow::Error::from);
        anyhow::Context::context(row, "reading a row")
    };
    let error = cache.get_or_load(102, loader).await.unwrap_err();
    assert_eq!(error.loader_error(), Some(&NoRow(102)));
    // Through another cache's loader.
    let outer = async |_| cache.get_or_load(103, row).await.map(|value| (*value).clone());
    let error = names().await.get_or_load("k", outer).await.unwrap_err();
    assert_eq!(error.loader_error(), Some(&NoRow(103)));
    // A string is an error too.
    let error = cache.get_or_load(104, async |_| Err::<String, _>("no row")).await.unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no row");
}

#[tokio::test]
async fn a_cache_is_used_from_tasks_joins_and_handlers() {
    let cache = names().await;
    let clone = cache.clone();
    tokio::spawn(async move { clone.set(1, "one").await }).await.unwrap().unwrap();
    let clone = cache.clone();
    let found = tokio::spawn(async move { clone.get(1).await }).await.unwrap().unwrap();
    assert_eq!(found.as_deref().map(String::as_str), Some("one"));
    let clone = cache.clone();
    let loaded = tokio::spawn(async move { clone.get_or_load(2, row).await }).await.unwrap().unwrap();
    assert_eq!(*loaded, "row 2");

    let ids = [1, 2, 3];
    let found = join_all(ids.iter().map(|id| cache.get(id))).await;
    assert_eq!(found.iter().flatten().flatten().count(), 2);
    let loaded = try_join_all(ids.map(|id| cache.get_or_load(id, row))).await.unwrap();
    assert_eq!(loaded.len(), 3);

    /// What a handler of a web framework has to be: `Send`, `'static`, and cloned for each request.
    fn handler<S, F, Fut>(state: S, handle: F) -> impl Fn(u64) -> tokio::task::JoinHandle<Fut::Output>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, u64) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output: Send> + Send + 'static,
    {
        move |id| tokio::spawn(handle(state.clone(), id))
    }
    let user =
        handler(cache, |cache: Cache<String>, id| async move { cache.get_or_load(id, row).await.map(|row| row.len()) });
    assert_eq!(user(44).await.unwrap().unwrap(), 6);
    assert_eq!(user(100).await.unwrap().unwrap_err().loader_error(), Some(&NoRow(100)));
}

#[tokio::test]
async fn a_backend_is_chosen_at_run_time() {
    for remote in [false, true] {
        let backend: Box<dyn Backend> =
            if remote { Box::new(Arc::new(MemoryBackend::new())) } else { Box::new(MemoryBackend::new()) };
        let cache: Cache<HashMap<String, u8>> = Cache::builder().namespace("n").build(backend).await.unwrap();
        cache.set("k", HashMap::from([("a".to_owned(), 1)])).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap()["a"], 1);
    }
}
