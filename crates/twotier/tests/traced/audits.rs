//! What is logged of a copy that was served for too long: enough to find it, and not the key.

use std::time::Duration;

use tokio::time::sleep;
use twotier::{Event, ManualClock, MemoryBackend};

use crate::{
    ALONE,
    lines::Lines,
    support::{read, text},
};

const BOUND: Duration = Duration::from_secs(2);
/// Time enough for the auditor to take some turns. Timers are paused: nobody waits for it.
const TURNS: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn a_violation_is_logged_with_the_hash_of_the_key_and_without_the_key() {
    let _alone = ALONE.lock().await;
    let lines = Lines::default();
    let _logged = lines.take(tracing::Level::INFO);
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let other = text().clock(clock.clone()).build(store.clone()).await.unwrap();
    let link = store.scripted_link();
    let builder = text().clock(clock.clone()).max_staleness(BOUND).audit(1000.0);
    let cache = builder.local_time_to_live(Duration::from_secs(60)).build(store).await.unwrap();
    let pass = async |step: Duration| {
        clock.advance(step);
        link.heartbeat();
        sleep(TURNS).await;
    };
    other.set("secret-name", "1".to_owned()).await.unwrap();
    assert_eq!(read(&cache, "secret-name").await.as_deref(), Some("1"));
    pass(Duration::from_millis(1)).await;
    let mut events = cache.events();
    link.lose(1);
    other.set("secret-name", "2".to_owned()).await.unwrap();
    assert_eq!(read(&cache, "secret-name").await.as_deref(), Some("1"));
    sleep(TURNS).await;
    for _ in 0..4 {
        pass(BOUND / 4).await;
    }
    let Some(Event::AuditFailed { key_hash, epoch, .. }) = events.try_next() else { panic!("it is announced") };
    let text = lines.text();
    let [warning] = &lines.at("WARN")[..] else { panic!("{text}") };
    for part in [format!("key_hash={key_hash:016x}"), format!("epoch={epoch}"), "bound=2000".into(), "link=up".into()] {
        assert!(warning.contains(&part), "{part}: {warning}");
    }
    assert!(!text.contains("secret-name"), "{text}");
}
