use super::*;
use crate::slot::SLOTS;

const SECOND: Duration = Duration::from_secs(1);
const NUMBER: u64 = 7;

/// A census of three primaries, whose map is in force, in the epoch 6 of which only the first three are claims: as a
/// cluster is that was just made.
fn census() -> Arc<Census> {
    let mut target = Target::parse(&twotier_core::RedisConfig::new("redis-cluster://h"), None).unwrap();
    target.node_timeout = 10 * SECOND;
    let census = Arc::new(Census::new(&target));
    let speaker = |link| (LinkId::new(link), (NUMBER, Arc::default()));
    census.state.lock().speakers = (1..10).map(speaker).collect();
    let now = Instant::now();
    (1..=3).for_each(|link| says(&census, link, now, 6, &view([1, 2, 3])));
    in_force(&census, [1, 2, 3]);
    census
}

/// The view of three owners of a third each, by the epochs of their claims; from 7 on it is another node that claims.
fn view(claims: [u64; 3]) -> Arc<View> {
    let third = SLOTS / 3;
    let line = |(place, epoch): (u16, u64)| {
        let last = if place == 2 { SLOTS - 1 } else { (place + 1) * third - 1 };
        let id = if epoch < 7 { u64::from(place) } else { epoch };
        format!("n{id} 127.0.0.1:{}@1 master - 0 0 {epoch} connected {}-{last}\n", 7000 + id, place * third)
    };
    Arc::new(View::read(&(0..).zip(claims).map(line).collect::<String>()).unwrap())
}

fn says(census: &Census, link: u16, asked: Instant, epoch: u64, view: &Arc<View>) {
    census.receives(LinkId::new(link), NUMBER, Statement { asked, epoch, is_ok: true, view: Arc::clone(view) });
}

fn in_force(census: &Census, claims: [u64; 3]) {
    let map = Map::merged([&*view(claims)].into_iter());
    let links = map.primaries.iter().map(|node| LinkId::new(1 + node.id[1..].parse::<u16>().unwrap())).collect();
    census.put_in_force(&Routes { map: Arc::new(map), links }, 6);
}

fn vouches(census: &Census, link: u16, mark: Instant) -> Option<Instant> {
    census.vouches(LinkId::new(link), mark)
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_as_of_the_time_since_which_a_majority_and_the_primary_itself_have_answered() {
    let (census, start) = (census(), Instant::now());
    assert_eq!(vouches(&census, 1, start + SECOND), Some(start), "nobody was asked since");
    says(&census, 1, start + SECOND, 6, &view([1, 2, 3]));
    assert_eq!(vouches(&census, 1, start + SECOND), Some(start), "it alone is no majority");
    says(&census, 2, start + 2 * SECOND, 6, &view([1, 2, 3]));
    assert_eq!(vouches(&census, 1, start + 3 * SECOND), Some(start + SECOND));
    assert_eq!(vouches(&census, 2, start + 3 * SECOND), Some(start + SECOND), "of two the one that was asked earlier");
    assert_eq!(vouches(&census, 3, start + 3 * SECOND), Some(start), "it did not answer itself");
    census.forgets(LinkId::new(3));
    assert_eq!((vouches(&census, 3, start), vouches(&census, 1, start)), (None, Some(start)));
    census.forgets(LinkId::new(2));
    assert_eq!(vouches(&census, 1, start), None, "one of three is no majority");
}

#[tokio::test(start_paused = true)]
async fn whoever_votes_for_another_primary_vouches_for_nobody_until_its_claim_is_in_the_map() {
    let (census, start) = (census(), Instant::now());
    // The third one is cut off, and answers us as ever; the others have voted for its replica, and show it before the
    // replica claims anything.
    (1..=2).for_each(|link| says(&census, link, start + SECOND, 7, &view([1, 2, 3])));
    says(&census, 3, start + SECOND, 6, &view([1, 2, 3]));
    assert!((1..=3).all(|link| vouches(&census, link, start + SECOND).is_none()));
    // The map is read anew meanwhile: it is the old one, in the new epoch.
    in_force(&census, [1, 2, 3]);
    assert!((1..=3).all(|link| vouches(&census, link, start + SECOND).is_none()));
    (1..=2).for_each(|link| says(&census, link, start + 2 * SECOND, 7, &view([1, 2, 7])));
    assert!((1..=3).all(|link| vouches(&census, link, start + 2 * SECOND).is_none()), "by the old map nobody vouches");
    in_force(&census, [1, 2, 7]);
    assert_eq!(vouches(&census, 1, start + 2 * SECOND), Some(start + 2 * SECOND));
    assert_eq!(vouches(&census, 3, start + 2 * SECOND), None, "the old one");
}

#[tokio::test(start_paused = true)]
async fn an_election_that_came_to_nothing_is_over_after_two_node_timeouts() {
    let (census, start) = (census(), Instant::now());
    let answer = |after| (1..=3).for_each(|link| says(&census, link, start + after, 7, &view([1, 2, 3])));
    answer(SECOND);
    assert_eq!(vouches(&census, 1, start + SECOND), None);
    tokio::time::advance(20 * SECOND - Duration::from_millis(1)).await;
    answer(20 * SECOND);
    assert_eq!(vouches(&census, 1, start + 20 * SECOND), None);
    tokio::time::advance(SECOND).await;
    answer(21 * SECOND);
    assert_eq!(vouches(&census, 1, start + 21 * SECOND), Some(start + 21 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_nobody_has_announced_is_waited_for_though_a_later_one_is_known() {
    let (census, start) = (census(), Instant::now());
    // Somebody made the claim 7, and before we know of it somebody else the claim 8.
    (1..=3).for_each(|link| says(&census, link, start + SECOND, 8, &view([1, 8, 3])));
    in_force(&census, [1, 8, 3]);
    says(&census, 9, start + SECOND, 8, &view([1, 8, 3]));
    assert_eq!(vouches(&census, 1, start + SECOND), None);
    for link in [1, 3, 9] {
        says(&census, link, start + SECOND, 8, &view([7, 8, 3]));
    }
    in_force(&census, [7, 8, 3]);
    assert_eq!(vouches(&census, 3, start + SECOND), Some(start + SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_move_that_raises_no_epoch_is_seen_by_comparing_views() {
    let (census, start) = (census(), Instant::now());
    let moved = Arc::new(View::read(&REPLY_MOVED.replace('|', "\n")).unwrap());
    (1..=2).for_each(|link| says(&census, link, start + SECOND, 6, &moved));
    assert_eq!(vouches(&census, 1, start + SECOND), None);
    assert_eq!(vouches(&census, 3, start + SECOND), None, "nor for the one that knows nothing of it");
}

const REPLY_MOVED: &str = "n0 127.0.0.1:7000@1 master - 0 0 1 connected 1-5460|n1 127.0.0.1:7001@1 master - 0 0 2 connected \
                           0 5461-10921|n2 127.0.0.1:7002@1 master - 0 0 3 connected 10922-16383";

#[tokio::test(start_paused = true)]
async fn that_a_primary_without_slots_has_become_a_replica_is_news() {
    let (census, now) = (census(), Instant::now());
    let idle = |role: &str| {
        let nodes = format!("n0 h:1@1 master - 0 0 1 connected 0-16383\nn1 h:2@2 {role} - 0 0 2 connected\n");
        Arc::new(View::read(&nodes).unwrap())
    };
    let map = Map::merged([&*idle("master")].into_iter());
    census.put_in_force(&Routes { map: Arc::new(map), links: vec![LinkId::new(1), LinkId::new(2)] }, 6);
    says(&census, 1, now, 6, &idle("master"));
    let mut news = census.news();
    news.mark_unchanged();
    says(&census, 1, now, 6, &idle("master"));
    assert!(!news.has_changed().unwrap());
    says(&census, 1, now, 6, &idle("slave"));
    assert!(news.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_finds_the_cluster_down_vouches_for_nobody() {
    let (census, start) = (census(), Instant::now());
    for link in 1..=2 {
        let answer = Statement { asked: start + SECOND, epoch: 6, is_ok: false, view: view([1, 2, 3]) };
        census.receives(LinkId::new(link), NUMBER, answer);
    }
    assert!((1..=3).all(|link| vouches(&census, link, start + SECOND).is_none()));
}
