//! The figures at the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use twotier_testkit::history::Worst;

use crate::{fault::Fault, group::Group, settings::Settings};

pub(crate) fn print(groups: &[Arc<Group>], settings: &Settings, elapsed: Duration) {
    let sum = |count: fn(&Group) -> u64| groups.iter().map(|group| count(group)).sum::<u64>();
    let operations = sum(|group| group.counts.operations.load(SeqCst));
    let hits = sum(|group| group.instances.iter().map(|instance| instance.cache.stats().local.hits).sum());
    println!("\nseconds              {:.1} of load, {:.1} in all", settings.load.as_secs_f64(), elapsed.as_secs_f64());
    println!("operations           {operations}");
    println!("  local hits         {hits}");
    println!("  checked            {}", sum(|group| group.counts.checked.load(SeqCst)));
    println!("  by foreign clients {}", sum(|group| group.counts.foreign.load(SeqCst)));
    println!("  rows loaded        {}", sum(|group| group.counts.loads.load(SeqCst)));
    println!("  failed             {}", sum(|group| group.counts.failures.load(SeqCst)));
    println!("  writes not sent    {}", sum(|group| group.counts.not_sent.load(SeqCst)));
    println!("  futures dropped    {}", sum(|group| group.counts.dropped.load(SeqCst)));
    println!("refused fills        {}", sum(|group| coherence(group, |stats| stats.refused_fills)));
    println!("refused installs     {}", sum(|group| coherence(group, |stats| stats.refused_writes)));
    println!("invalidations        {}", sum(|group| coherence(group, |stats| stats.invalidations)));
    println!("links made           {}", sum(|group| coherence(group, |stats| stats.links)));

    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut recoveries: Vec<(Duration, Fault)> = Vec::new();
    for group in groups {
        for fault in &*group.injected.lock().unwrap() {
            *kinds.entry(fault.name()).or_default() += 1;
        }
        recoveries.extend(group.recoveries.lock().unwrap().iter().map(|&(fault, time)| (time, fault)));
    }
    let list: Vec<String> = kinds.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("faults               {} ({})", kinds.values().sum::<usize>(), list.join(", "));

    recoveries.sort_by_key(|&(time, _)| time);
    if let Some(&(max, slowest)) = recoveries.last() {
        let [p50, p99] = [50, 99].map(|percent| recoveries[(recoveries.len() - 1) * percent / 100].0);
        println!(
            "recovery after heal  p50 {}, p99 {}, max {} ({}), of {}",
            millis(p50),
            millis(p99),
            millis(max),
            slowest.name(),
            recoveries.len()
        );
    }
    for group in groups {
        for (handle, bound) in settings.bounds().into_iter().enumerate() {
            let Worst { hit, calm_hit, read } = group.history.worst(handle);
            println!(
                "worst staleness      {:?} {handle}: hit {} ({} without a fault), any read {}, bound {}",
                group.kind,
                millis(hit),
                millis(calm_hit),
                millis(read),
                millis(bound)
            );
        }
    }
    for group in groups {
        let audit = group.audit();
        println!(
            "audited hits         {:?}: {} sampled, {} confirmed, {} inconclusive, {} violations: at least {:.2} nines \
             within the bound",
            group.kind,
            audit.sampled,
            audit.confirmed,
            audit.inconclusive,
            audit.violations,
            audit.nines()
        );
    }
    println!("looks at rest        {}", sum(|group| group.counts.rests.load(SeqCst) as u64));
    println!("violations           {}", sum(|group| group.history.violations().len() as u64));
}

fn coherence(group: &Group, count: fn(&twotier::CoherenceStats) -> u64) -> u64 {
    group.instances.iter().map(|instance| count(&instance.cache.stats().coherence)).sum()
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
