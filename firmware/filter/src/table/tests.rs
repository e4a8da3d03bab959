//! The table against a plain list, and under pressure.

use super::*;
use crate::address::{V4, V6};
use crate::flow::Path;
use crate::packet::Ports;

const NOW: Ticks = Ticks::from_secs(100);

#[test]
fn a_flow_is_found_from_both_sides_and_only_so() {
    let mut count = Count::default();
    let mut room = Room::<V4, 64>::new();
    let mut flows = Flows::new(&mut room, 1);
    let flow = flow(1, State::Established);
    let id = flows.insert(NOW, flow, &mut count).unwrap();
    assert_eq!(
        flows.find(flow.tuple(Direction::Original), Class::Tcp),
        Some((id, Direction::Original))
    );
    assert_eq!(
        flows.find(flow.tuple(Direction::Reply), Class::Tcp),
        Some((id, Direction::Reply))
    );
    assert_eq!(
        flows.find(&flow.tuple(Direction::Original).reversed(), Class::Tcp),
        None
    );
    assert_eq!(flows.insert(NOW, flow, &mut count), Err(InsertError::Clash));
    flows.remove(id, &mut count);
    assert_eq!(
        flows.find(flow.tuple(Direction::Original), Class::Tcp),
        None
    );
    assert_eq!(flows.find(flow.tuple(Direction::Reply), Class::Tcp), None);
    assert_eq!((flows.len(), count.0), (0, 0));
}

/// The table takes all it has room for, whatever the key, and finds each.
#[test]
fn full_means_full() {
    for seed in 0..20 {
        let mut count = Count::default();
        let mut room = Room::<V4, 256>::new();
        let mut flows = Flows::new(&mut room, seed);
        for n in 0..256 {
            flows
                .insert(NOW, flow(n, State::Established), &mut count)
                .unwrap();
        }
        assert_eq!(flows.len(), 256);
        assert_eq!(
            flows.insert(NOW, flow(256, State::SynSent), &mut count),
            Err(InsertError::Full)
        );
        for n in 0..256 {
            for direction in [Direction::Original, Direction::Reply] {
                let found = flows.find(flow(n, State::Established).tuple(direction), Class::Tcp);
                assert_eq!(found.map(|(_, side)| side), Some(direction), "{n}");
            }
        }
    }
}

#[test]
fn under_pressure_the_unanswered_go_and_the_established_stay() {
    let mut count = Count::default();
    let mut room = Room::<V4, 64>::new();
    let mut flows = Flows::new(&mut room, 7);
    for n in 0..8 {
        flows
            .insert(NOW, flow(n, State::Established), &mut count)
            .unwrap();
    }
    for n in 8..10_000 {
        flows
            .insert(NOW, flow(n, State::SynSent), &mut count)
            .unwrap();
        assert!(flows.len() <= 64);
        assert_eq!(flows.len(), count.0);
    }
    assert_eq!(flows.half_open(), flows.len() - 8);
    for n in 0..8 {
        let tuple = *flow(n, State::Established).tuple(Direction::Reply);
        assert!(flows.find(&tuple, Class::Tcp).is_some(), "{n}");
    }
}

#[test]
fn sweeping_removes_the_expired_only() {
    let mut count = Count::default();
    let mut room = Room::<V4, 64>::new();
    let mut flows = Flows::new(&mut room, 7);
    for n in 0..32 {
        let mut flow = flow(n, State::Established);
        flow.expiry = NOW.after(Ticks::from_secs(if n % 2 == 0 { 10 } else { 1000 }));
        flows.insert(NOW, flow, &mut count).unwrap();
    }
    flows.sweep(NOW.after(Ticks::from_secs(100)), 64, &mut count);
    assert_eq!(flows.len(), 16);
    for n in 0..32 {
        let found = flows.find(
            flow(n, State::Established).tuple(Direction::Original),
            Class::Tcp,
        );
        assert_eq!(found.is_some(), n % 2 == 1, "{n}");
    }
}

/// Random insertions and removals against a plain list.
#[test]
fn same_answers_as_a_list() {
    let mut count = Count::default();
    let mut room = Room::<V4, 128>::new();
    let mut flows = Flows::new(&mut room, 3);
    let mut list: [Option<Flow<V4>>; 200] = [None; 200];
    let mut random = SplitMix64::new(99);
    for _ in 0..20_000 {
        let n = (random.draw() % 200) as usize;
        let model = flow(n as u32, State::Established);
        match list[n] {
            Some(_) => {
                let (id, _) = flows
                    .find(model.tuple(Direction::Original), Class::Tcp)
                    .unwrap();
                flows.remove(id, &mut count);
                list[n] = None;
            }
            None if flows.insert(NOW, model, &mut count).is_ok() => list[n] = Some(model),
            None => assert_eq!(flows.len(), 128),
        }
        let other = (random.draw() % 200) as usize;
        let tuple = *flow(other as u32, State::Established).tuple(Direction::Reply);
        assert_eq!(
            flows.find(&tuple, Class::Tcp).is_some(),
            list[other].is_some()
        );
        assert_eq!(flows.len(), list.iter().flatten().count());
        assert_eq!(flows.len(), count.0);
    }
}

#[test]
fn a_flow_and_its_index_fit_64_bytes() {
    assert_eq!(size_of::<Flow<V4>>() + 3 * size_of::<Entry>(), 64);
    assert_eq!(size_of::<Flow<V6>>() + 3 * size_of::<Entry>(), 112);
}

/// Counts as the table says.
#[derive(Default)]
struct Count(usize);

impl Ledger<V4> for Count {
    fn opened(&mut self, _: &Flow<V4>) {
        self.0 += 1;
    }

    fn closed(&mut self, _id: u32, _: &Flow<V4>) {
        self.0 -= 1;
    }

    fn gone(&mut self, _: &Flow<V4>) {}
}

fn flow(n: u32, state: State) -> Flow<V4> {
    let original = Tuple {
        source: V4::from_bits(0xc633_6400 + n),
        destination: V4::from_bits(0xcb00_710a),
        ports: Ports::new(40_000 + n as u16, 443),
    };
    let reply = Tuple {
        source: V4::from_bits(0x0a14_010b),
        destination: original.source,
        ports: Ports::new(8443, 40_000 + n as u16),
    };
    let mut flow = Flow::new(original, reply, state, Path::default(), Path::default());
    flow.expiry = NOW.after(state.timeout());
    flow
}
