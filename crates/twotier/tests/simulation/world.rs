//! The servers of a run: one that stands for itself, or the nodes of a cluster.

use std::slice;

use fastrand::Rng;
use tokio::task::JoinHandle;
use twotier::{RedisBackend, RedisConfig};
use twotier_testkit::simulation::{Cluster, Foreign, Histories, Journal, Network, Server, Setup};

use crate::{
    checker::qualified,
    scenario::{Scenario, key},
};

/// The servers of a run, each with the network that leads to it. Clones are the same.
#[derive(Clone)]
pub(crate) enum World {
    One((Network, Server)),
    Cluster(Cluster),
}

impl World {
    pub(crate) fn new(scenario: &Scenario, rng: &mut Rng, journal: &Journal) -> Self {
        if let Some(slots) = &scenario.slots {
            let setup = Setup {
                links: scenario.caches,
                keys: (0..scenario.keys).map(|index| qualified(&key(index))).collect(),
                cycles: scenario.cycles,
                weather: scenario.weather,
                node_timeout: slots.node_timeout,
                gossip: slots.gossip,
                reports_vanished: slots.reports_vanished,
            };
            return Self::Cluster(Cluster::new(rng.u64(..), setup, journal));
        }
        let network = Network::new(rng.u64(..), scenario.caches, scenario.weather, journal.clone());
        let server = Server::new(rng.u64(..), network.clone(), scenario.cycles, journal.clone());
        Self::One((network, server))
    }

    /// Starts everything, and returns the tasks.
    pub(crate) fn serve(&self) -> Vec<JoinHandle<()>> {
        match self {
            Self::One((_, server)) => vec![tokio::spawn(server.clone().serve())],
            Self::Cluster(cluster) => cluster.serve(),
        }
    }

    pub(crate) fn histories(&self) -> Histories {
        match self {
            Self::One((_, server)) => server.histories(),
            Self::Cluster(cluster) => cluster.histories(),
        }
    }

    pub(crate) fn nodes(&self) -> &[(Network, Server)] {
        match self {
            Self::One(server) => slice::from_ref(server),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// Has something done by somebody who is not connected over the network.
    pub(crate) fn foreign(&self, what: Foreign) {
        match self {
            Self::One((_, server)) => server.foreign(what),
            Self::Cluster(cluster) => cluster.foreign(what),
        }
    }

    /// Makes a backend behind a link of the network.
    pub(crate) fn backend(&self, link: usize, scenario: &Scenario) -> RedisBackend {
        let configured = |url: String| {
            let config = RedisConfig::new(url).connect_timeout(scenario.connect_timeout);
            config.dead_after(scenario.dead_after).max_backoff(scenario.max_backoff)
        };
        let backend = match self.clone() {
            Self::One((network, _)) => {
                RedisBackend::over_streams(&configured("redis://one".to_owned()), move |_host, _port| {
                    let network = network.clone();
                    async move { network.dial(link).await }
                })
            }
            Self::Cluster(cluster) => {
                let node_timeout = scenario.slots.as_ref().unwrap().node_timeout;
                let config = configured(cluster.url()).cluster_node_timeout(node_timeout);
                RedisBackend::over_streams(&config, move |_host, port| {
                    let cluster = cluster.clone();
                    async move { cluster.dial(port, link).await }
                })
            }
        };
        backend.unwrap()
    }
}
