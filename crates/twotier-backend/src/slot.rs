//! Which of the 16,384 slots of a cluster a key lies in.

/// How many slots there are.
pub(crate) const SLOTS: u16 = 16_384;

/// Returns the slot of a key: by the part between its first `{` and the next `}` if there is any, else by all of it.
///
/// As the [specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/) has it: CRC16 in
/// its XMODEM variant, modulo the number of slots.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

pub(crate) fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let from = key.iter().position(|byte| *byte == b'{')? + 1;
    let tagged = key.get(from..)?;
    let tag = tagged.get(..tagged.iter().position(|byte| *byte == b'}')?)?;
    (!tag.is_empty()).then_some(tag)
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let [high, low] = crc.to_be_bytes();
        REMAINDERS[usize::from(high ^ byte)] ^ (u16::from(low) << 8)
    })
}

/// What each byte leaves behind, eight steps at once.
const REMAINDERS: [u16; 256] = {
    let mut remainders = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let (mut crc, mut step) = (byte << 8, 0);
        while step < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            step += 1;
        }
        remainders[byte as usize] = crc;
        byte += 1;
    }
    remainders
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_a_server() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the example of the specification");
        for (key, slot) in [("foo", 12_182), ("bar", 5061), ("hello", 866), ("", 0)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn keys_of_one_tag_share_a_slot_and_an_empty_tag_is_none() {
        let slot = |key: &str| slot_of(key.as_bytes());
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_eq!(slot("{foo}"), slot("foo"));
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
        assert_eq!(slot("foo{bar}{zap}"), slot("bar"));
        for whole in ["foo{}{bar}", "foo{bar", "foo}bar{", "{"] {
            assert_eq!(slot(whole), crc16(whole.as_bytes()) % SLOTS, "{whole}");
        }
    }
}
