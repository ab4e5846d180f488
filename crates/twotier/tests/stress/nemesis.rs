//! Faults, one after the other, from a script that the seed decides.

use std::{
    sync::atomic::Ordering::SeqCst,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::runtime::Handle;
use twotier_testkit::{
    RedisServer, Reply,
    history::{Broken, Violation},
};

use crate::{
    fault::Fault,
    group::{Group, Instance, Kind},
    settings::Settings,
};

/// An instance that has not recovered by then never will.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn run(group: &Group, settings: &Settings, round: u64, runtime: &Handle) {
    let suited = |fault: &Fault| fault.suits(group.kind);
    let choices: Vec<Fault> = settings
        .faults
        .iter()
        .copied()
        .filter(suited)
        .flat_map(|fault| std::iter::repeat_n(fault, fault.weight()))
        .collect();
    if choices.is_empty() {
        return;
    }
    let mut random = Rng::with_seed(settings.seed_of(group, round * 100 + 99));
    pause(&mut random, 100..200);
    while group.goes_on() {
        let fault = choices[random.usize(..choices.len())];
        let hurt = Hurt { group, settings, runtime, random: random.fork() };
        group.history.set_calm(false);
        if let Some(affected) = hurt.inject(fault) {
            group.injected.lock().unwrap().push(fault);
            recover(group, fault, &affected);
        }
        group.history.set_calm(true);
        pause(&mut random, 10..80);
    }
}

fn pause(random: &mut Rng, millis: std::ops::Range<u64>) {
    thread::sleep(Duration::from_millis(random.u64(millis)));
}

/// Waits until everyone whose fault was healed has done something again.
fn recover(group: &Group, fault: Fault, affected: &[usize]) {
    let healed = group.history.now();
    for &number in affected {
        group.instances[number].healed.lock().unwrap().push((healed, fault));
    }
    let start = Instant::now();
    while affected.iter().any(|&number| !group.instances[number].healed.lock().unwrap().is_empty()) {
        if start.elapsed() > PATIENCE {
            for &number in affected {
                let mut waiting = group.instances[number].healed.lock().unwrap();
                if !waiting.is_empty() {
                    waiting.clear();
                    let at = group.history.now();
                    let broken = Broken::NotRecovered;
                    group.history.report(Violation { broken, handle: Some(number), key: 0, version: None, at });
                }
            }
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

struct Hurt<'g> {
    group: &'g Group,
    settings: &'g Settings,
    runtime: &'g Handle,
    random: Rng,
}

impl Hurt<'_> {
    /// Injects a fault and heals it. Returns whom it hurt, `None` when it could not be injected.
    fn inject(mut self, fault: Fault) -> Option<Vec<usize>> {
        let (group, history) = (self.group, &self.group.history);
        let server = &group.server;
        let everyone: Vec<usize> = (0..group.instances.len()).collect();
        let some = self.some();
        let links: Vec<&Instance> = some.iter().map(|&number| &group.instances[number]).collect();
        match fault {
            Fault::ClientKill => {
                server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
            Fault::Kill => {
                if group.kind == Kind::Lossy {
                    history.losing(history.now());
                }
                server.kill();
                let down = self.up_to(Duration::from_millis(1500));
                thread::sleep(down);
                server.restart();
                if group.kind == Kind::Lossy {
                    history.lost(true, history.now());
                }
            }
            Fault::Stop => {
                server.pause();
                let stopped = self.long();
                thread::sleep(stopped);
                server.resume();
            }
            Fault::HalfOpen => {
                links.iter().for_each(|link| link.proxy.pause());
                let hangs = self.long();
                thread::sleep(hangs);
                links.iter().for_each(|link| link.proxy.resume());
                return Some(some);
            }
            Fault::Mute => {
                links.iter().for_each(|link| link.proxy.pause_replies());
                let hangs = self.long();
                thread::sleep(hangs);
                links.iter().for_each(|link| link.proxy.resume());
                return Some(some);
            }
            Fault::Cut => {
                links.iter().for_each(|link| link.proxy.split(7));
                pause(&mut self.random, 1..10);
                links.iter().for_each(|link| link.proxy.cut());
                links.iter().for_each(|link| link.proxy.split(link.always_split));
                return Some(some);
            }
            Fault::HangUp => {
                links.iter().for_each(|link| link.proxy.hang_up());
                return Some(some);
            }
            Fault::Refuse => {
                links.iter().for_each(|link| link.proxy.refuse(true));
                links.iter().for_each(|link| link.proxy.cut());
                let refused = self.up_to(Duration::from_millis(1500));
                thread::sleep(refused);
                links.iter().for_each(|link| link.proxy.refuse(false));
                return Some(some);
            }
            Fault::Slow => {
                for link in &links {
                    link.proxy.set_round_trip(Duration::from_millis(self.random.u64(1..40)));
                }
                pause(&mut self.random, 50..300);
                links.iter().for_each(|link| link.proxy.set_round_trip(Duration::ZERO));
                return Some(some);
            }
            Fault::Split => {
                links.iter().for_each(|link| link.proxy.split(self.random.usize(3..40)));
                pause(&mut self.random, 50..300);
                links.iter().for_each(|link| link.proxy.split(link.always_split));
                return Some(some);
            }
            Fault::Flush => {
                history.losing(history.now());
                assert!(server.command(&["FLUSHALL"]).is_ok());
                history.lost(true, history.now());
            }
            Fault::Evict => {
                history.losing(history.now());
                assert!(server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).is_ok());
                for _ in 0..self.random.u8(1..8) {
                    let used: usize = server.info("memory")["used_memory"].parse().unwrap();
                    let tight = used - self.random.usize(1000..8000);
                    assert!(server.command(&["CONFIG", "SET", "maxmemory", &tight.to_string()]).is_ok());
                    pause(&mut self.random, 5..40);
                }
                assert!(server.command(&["CONFIG", "SET", "maxmemory", "0"]).is_ok());
                history.lost(false, history.now());
            }
            Fault::Demote => {
                history.losing(history.now());
                let port = group.stand_in.port().to_string();
                assert!(server.command(&["REPLICAOF", "127.0.0.1", &port]).is_ok());
                let synchronised = until(Duration::from_secs(5), || {
                    server.info("replication").get("master_link_status").is_some_and(|status| status == "up")
                });
                let demoted = self.up_to(Duration::from_millis(1500));
                thread::sleep(demoted);
                assert!(server.command(&["REPLICAOF", "NO", "ONE"]).is_ok());
                history.lost(synchronised, history.now());
            }
            Fault::Failover => {
                if !fail_over(server, &group.stand_in) {
                    return None;
                }
                group.failed_over.store(true, SeqCst);
                let away = self.up_to(Duration::from_millis(1500));
                thread::sleep(away);
                assert!(
                    until(Duration::from_secs(30), || fail_over(&group.stand_in, server)),
                    "the roles cannot be changed back"
                );
                group.failed_over.store(false, SeqCst);
            }
            Fault::Clear => {
                history.losing(history.now());
                let cache = &links[0].cache;
                // An error has cleared some keys, which is a loss too.
                let _ = self.runtime.block_on(cache.clear());
                history.lost(false, history.now());
            }
        }
        Some(everyone)
    }

    /// Chooses at least one instance.
    fn some(&mut self) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..self.group.instances.len()).collect();
        self.random.shuffle(&mut chosen);
        chosen.truncate(self.random.usize(1..=chosen.len()));
        chosen
    }

    /// Between 50 ms and the longest there is; short ones are more frequent.
    fn long(&mut self) -> Duration {
        self.up_to(self.settings.longest_fault())
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        let shortest = Duration::from_millis(50);
        let longest = longest.min(self.settings.longest_fault());
        shortest.mul_f64(longest.div_duration_f64(shortest).powf(self.random.f64()))
    }
}

/// Hands the role of primary over, in good order: nothing acknowledged is lost. Returns whether it was done.
fn fail_over(from: &RedisServer, to: &RedisServer) -> bool {
    let port = to.port().to_string();
    if !from.command(&["FAILOVER", "TO", "127.0.0.1", &port, "TIMEOUT", "2000"]).is_ok() {
        return false;
    }
    let role = |server: &RedisServer| server.command(&["ROLE"]).as_array()[0].clone();
    let is = |server: &RedisServer, name: &str| role(server) == Reply::Bulk(name.into());
    let done = until(Duration::from_secs(4), || is(to, "master") && is(from, "slave"));
    if !done {
        // Past its own deadline it was given up by the server.
        from.command(&["FAILOVER", "ABORT"]);
    }
    done
}

fn until(patience: Duration, condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}
