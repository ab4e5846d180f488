//! Which slot of a cluster a key lies in. Keys with a hash tag are not simulated.

/// How many slots there are.
pub(super) const SLOTS: u16 = 16_384;

pub(super) fn slot_of(key: &str) -> u16 {
    let crc = key.bytes().fold(0_u16, |crc, byte| {
        (0..8)
            .fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_a_server() {
        for (key, slot) in [("foo", 12_182), ("bar", 5061), ("hello", 866), ("", 0)] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }
}
