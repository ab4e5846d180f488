//! The mock.
#![allow(missing_docs, reason = "`mockall` makes the methods; the trait documents them")]

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mockall::mock;
use twotier_core::LinkState;

use crate::{Attachment, Backend, BackendResult, Counted, Stored, Watch, Write};

mock! {
    /// A backend that does what a test expects of it, by [`mockall`](https://docs.rs/mockall).
    ///
    /// A call without an expectation fails the test, and so does an expectation that was not met when the mock is
    /// dropped: `times(0)` is how to assert that something was answered without the backend.
    ///
    /// # Examples
    ///
    /// ```
    /// # mod twotier { pub use twotier_backend::*; pub use twotier_core::*; }
    /// use twotier::{Backend, MockBackend, RemainingTtl, Stored};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), twotier::BackendError> {
    /// let mut backend = MockBackend::new();
    /// backend
    ///     .expect_get()
    ///     .withf(|key| key == b"users:42")
    ///     .times(1)
    ///     .returning(|_key| Ok(Some(Stored::new("Ada", RemainingTtl::Persistent))));
    /// backend.expect_set().times(0);
    ///
    /// let stored = backend.get(b"users:42").await?;
    /// assert_eq!(stored.expect("as set up").value, "Ada");
    /// backend.checkpoint(); // fails the test if a count was not met
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug)]
    pub Backend {}

    // What is left out is provided by the trait in terms of what is here.
    #[async_trait]
    impl Backend for Backend {
        async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>>;
        async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()>;
        async fn delete(&self, key: &[u8]) -> BackendResult<bool>;
        async fn clear(&self, prefix: &[u8]) -> BackendResult<u64>;
        async fn compare_and_set(
            &self,
            key: &[u8],
            expected: Option<Bytes>,
            value: Option<Bytes>,
            ttl: Option<Duration>,
        ) -> BackendResult<bool>;
        async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted>;
        async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool>;
        async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>>;
        async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>>;
        async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>>;
        async fn attach(&self, watch: Watch) -> BackendResult<Attachment>;
        fn link(&self) -> LinkState;
        async fn close(&self);
    }
}
