//! Many CIDs in little memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Cid;

/// A map of CIDs. One of DIR's own takes its digest: some 56 bytes with the tree around it, a quarter less than with
/// all of a `Cid`. A tree grows node by node, so there is no moment in which all is there twice.
#[derive(Clone, Debug)]
pub(crate) struct CidMap<V> {
    own: BTreeMap<[u8; 32], V>,
    /// Of other codecs and hashes, if a server has such.
    others: BTreeMap<Cid, V>,
}

impl<V> Default for CidMap<V> {
    fn default() -> Self {
        Self {
            own: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }
}

impl<V: Copy> CidMap<V> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.others.len()
    }

    pub(crate) fn contains(&self, cid: &Cid) -> bool {
        match cid.own_digest() {
            Some(digest) => self.own.contains_key(&digest),
            None => self.others.contains_key(cid),
        }
    }

    /// Puts a value there. Returns the one that was there.
    pub(crate) fn insert(&mut self, cid: &Cid, value: V) -> Option<V> {
        match cid.own_digest() {
            Some(digest) => self.own.insert(digest, value),
            None => self.others.insert(*cid, value),
        }
    }

    pub(crate) fn remove(&mut self, cid: &Cid) -> Option<V> {
        match cid.own_digest() {
            Some(digest) => self.own.remove(&digest),
            None => self.others.remove(cid),
        }
    }

    /// The next `count` entries behind `last`, or the first.
    pub(crate) fn behind(&self, last: Option<Cid>, count: usize) -> Vec<(Cid, V)> {
        let digest = last.as_ref().and_then(Cid::own_digest);
        let own = match (last, digest) {
            (Some(_), None) => None,
            (_, digest) => {
                let from = digest.map_or(Bound::Unbounded, Bound::Excluded);
                Some(self.own.range((from, Bound::Unbounded)))
            }
        };
        let own = own.into_iter().flatten();
        let own = own.map(|(digest, value)| (Cid::from_digest(*digest), *value));
        let from = match last.filter(|_| digest.is_none()) {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let others = self.others.range((from, Bound::Unbounded));
        let others = others.map(|(cid, value)| (*cid, *value));
        own.chain(others).take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn own(n: u8) -> Cid {
        Cid::from_digest([n; 32])
    }

    /// A raw block with SHA2-256, and a CIDv0.
    fn others() -> [Cid; 2] {
        [
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
            "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
        ]
        .map(|text| text.parse().unwrap())
    }

    #[test]
    fn it_has_cids_of_any_kind_each_once() {
        let mut map = CidMap::default();
        for (n, cid) in [own(1), own(2)].into_iter().chain(others()).enumerate() {
            assert_eq!(map.insert(&cid, n), None);
            assert_eq!(map.insert(&cid, n), Some(n));
            assert_eq!(map.insert(&cid, n + 10), Some(n));
        }
        assert_eq!(map.len(), 4);
        assert_eq!(map.remove(&own(1)), Some(10));
        assert_eq!(map.remove(&others()[1]), Some(13));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn it_is_walked_through_in_pieces_of_any_size() {
        let mut map = CidMap::default();
        let all: Vec<Cid> = (0..5).map(own).chain(others()).collect();
        for cid in &all {
            map.insert(cid, ());
        }
        for size in 1..=8 {
            let mut seen = Vec::new();
            loop {
                let piece = map.behind(seen.last().copied(), size);
                assert!(piece.len() <= size);
                if piece.is_empty() {
                    break;
                }
                seen.extend(piece.into_iter().map(|(cid, ())| cid));
            }
            seen.sort_unstable();
            let mut all = all.clone();
            all.sort_unstable();
            assert_eq!(seen, all, "in pieces of {size}");
        }
    }

    /// What `follow` keeps of a store with a million records.
    #[test]
    fn a_million_fits_into_64_mib() {
        let info = allocation_counter::measure(|| {
            let mut map = CidMap::default();
            let mut random = fastrand::Rng::with_seed(0);
            for _ in 0..1_000_000 {
                let mut digest = [0; 32];
                random.fill(&mut digest);
                map.insert(&Cid::from_digest(digest), 0_u8);
            }
            assert_eq!(map.len(), 1_000_000);
        });
        assert!(info.bytes_max <= 64 << 20, "{} bytes", info.bytes_max);
    }
}
