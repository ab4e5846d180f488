//! Writes to a key of its own all the time: tells when an instance works again, and when open writes are settled.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::time::sleep;

use crate::{group::Group, value::Value};

pub(crate) async fn run(group: Arc<Group>, instance: usize) {
    let this = &group.instances[instance];
    let key = format!("probe-{instance}");
    let mut random = fastrand::Rng::new();
    let mut done = 0;
    // Goes on until every fault is healed and recovered from.
    while group.goes_on() || group.under_attack.load(SeqCst) {
        let mut probe = async || {
            done += 1;
            this.cache.set(&key, Value::new(1, &mut random)).await.is_ok()
        };
        let start = group.history.now();
        let mut settled = probe().await;
        if settled {
            let now = group.history.now();
            let mut recoveries = group.recoveries.lock().unwrap();
            this.healed.lock().unwrap().retain(|&(healed, fault)| {
                let recovered = start >= healed;
                if recovered {
                    recoveries.push((fault, now.since(healed)));
                }
                !recovered
            });
        }
        // With one connection left through the proxy no older one can bring anything to the server; what it brought
        // before is executed before what is sent now, since the server takes turns.
        for _ in 0..3 {
            settled = settled && this.proxy.open_connections() == 2 && probe().await;
        }
        if settled {
            this.settled.store(start.as_nanos(), SeqCst);
        }
        sleep(Duration::from_millis(3)).await;
    }
    group.counts.operations.fetch_add(done, SeqCst);
}
