//! The backend is swapped by its trait, for a mock with expectations too.

use twotier::{Attachment, BackendError, BackendErrorKind, Coherence, ErrorKind, MockBackend, RemainingTtl, Stored};

use crate::support::{read, text};

#[tokio::test]
async fn a_mock_counts_what_a_cache_asks_of_its_backend() {
    let mut backend = MockBackend::new();
    backend.expect_attach().times(1).returning(|_| Ok(Attachment::new(Coherence::None)));
    backend
        .expect_get()
        .withf(|key| key == b"t:k")
        .times(1)
        .returning(|_| Ok(Some(Stored::new("v", RemainingTtl::Persistent))));
    backend.expect_set().times(0);
    let cache = text().build(backend).await.unwrap();
    for _ in 0..10 {
        assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn a_backend_that_loses_items_of_a_batch_is_an_error_and_never_a_silent_success() {
    let mut backend = MockBackend::new();
    backend.expect_attach().returning(|_| Ok(Attachment::new(Coherence::None)));
    backend.expect_set_many().returning(|_| vec![Ok(true)]);
    backend.expect_delete_many().returning(|_| vec![]);
    backend.expect_get_many().returning(|_| vec![]);
    let cache = text().build(backend).await.unwrap();
    let error = cache.set_many([("a", String::new()), ("b", String::new())]).await.unwrap_err();
    assert!(format!("{error:?}").contains("one result for each item"), "{error:?}");
    assert!(cache.delete_many(&["a", "b"]).await.is_err());
    assert!(cache.get_many(&["a", "b"]).await.is_err(), "an unanswered key is not an absent one");
}

#[tokio::test]
async fn an_item_that_the_backend_fails_is_an_error_of_its_own_and_only_it_has_no_local_copy() {
    let failed = || BackendError::new(BackendErrorKind::Rejected, "out of memory");
    let mut backend = MockBackend::new();
    backend.expect_attach().returning(|_| Ok(Attachment::new(Coherence::None)));
    backend.expect_set_many().times(1).returning(move |_| vec![Ok(true), Err(failed()), Ok(true)]);
    backend.expect_delete_many().times(1).returning(move |_| vec![Err(failed()), Ok(true)]);
    backend.expect_get().times(0);
    let cache = text().build(backend).await.unwrap();
    let written = cache.set_each([("a", "1".to_owned()), ("b", "2".to_owned()), ("c", "3".to_owned())]).await;
    assert!(written[0].is_ok() && written[2].is_ok());
    assert_eq!(written[1].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
    assert!(cache.get_if_local("a").is_some() && cache.get_if_local("c").is_some());
    assert!(cache.get_if_local("b").is_none());
    let deleted = cache.delete_each(&["a", "c"]).await;
    assert!(matches!(deleted[..], [Err(_), Ok(true)]));
    assert!(cache.get_if_local("a").is_none());
}
