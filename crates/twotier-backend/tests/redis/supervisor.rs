//! What is reported of a link is true, also when nobody keeps it any more.

mod live {
    use std::{
        pin::pin,
        sync::{Arc, mpsc},
        task::{Context, Poll, Waker},
        thread,
        time::Duration,
    };

    use tokio::runtime::Builder;
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{BackendErrorKind, LinkState};
    use twotier_testkit::RedisServer;

    use crate::support::{Counter, watch};

    #[test]
    fn a_link_whose_runtime_has_ended_is_down_until_somebody_in_another_one_asks_for_it() {
        let server = RedisServer::start();
        let (backend, counter) = (RedisBackend::new(server.url()).unwrap(), Arc::new(Counter::default()));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(backend.attach(watch(&counter, Duration::from_secs(2), None))).unwrap();
        assert!(backend.link().is_up());
        drop(runtime);
        let LinkState::Down { cause, .. } = backend.link() else { panic!("{:?}", backend.link()) };
        assert!(cause.to_string().contains("runtime"), "{cause}");
        assert!(Counter::of(&counter.downs) >= 1);
        let ended = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = ended.handle().clone();
        drop(ended);
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        {
            // Where nobody can keep it an operation is an error, and no hang.
            let _within = handle.enter();
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(Err(error)) = pin!(backend.get(b"n:k")).poll(&mut context) else { panic!() };
            assert_eq!((error.kind(), error.may_have_executed()), (BackendErrorKind::Unavailable, false));
        }
        other.block_on(async {
            let error = backend.delete(b"n:k").await.unwrap_err();
            assert_eq!((error.kind(), error.may_have_executed()), (BackendErrorKind::Unavailable, false));
            assert_eq!(backend.get(b"n:k").await.unwrap(), None);
            assert!(backend.link().is_up());
            assert_eq!(Counter::of(&counter.ups), 2);
        });
    }

    #[test]
    fn a_runtime_that_cannot_keep_a_link_is_an_error_and_no_hang() {
        let server = RedisServer::start();
        let without_time = || Builder::new_current_thread().enable_io().build().unwrap();
        let without_io = || Builder::new_current_thread().enable_time().build().unwrap();
        for runtime in [without_time(), without_io()] {
            let (url, (sender, ended)) = (server.url(), mpsc::channel());
            thread::spawn(move || {
                let (backend, counter) = (RedisBackend::new(url).unwrap(), Arc::new(Counter::default()));
                let attached = runtime.block_on(backend.attach(watch(&counter, Duration::from_secs(2), None)));
                sender.send(attached.map(drop)).unwrap();
            });
            let error = ended.recv_timeout(Duration::from_secs(20)).expect("it ends").unwrap_err();
            assert!(error.to_string().contains("time and I/O"), "{error}");
        }
    }
}
