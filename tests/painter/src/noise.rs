//! Random numbers that repeat for the same seed.

/// A number from 0 to 1 for a position.
#[expect(clippy::cast_precision_loss, reason = "24 bits are kept")]
#[expect(clippy::cast_sign_loss, reason = "a hash of the bits")]
pub(crate) fn at(x: i64, y: i64, seed: u64) -> f32 {
    let mut bits = (x as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((y as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(seed.wrapping_mul(0x1656_67b1_9e37_79f9));
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^= bits >> 33;
    (bits >> 40) as f32 / (1_u32 << 24) as f32
}

/// Smooth noise that changes over about `grain` pixels.
#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
#[expect(clippy::cast_possible_truncation, reason = "floored before")]
pub(crate) fn soft(x: usize, y: usize, grain: f32, seed: u64) -> f32 {
    let (x, y) = (x as f32 / grain, y as f32 / grain);
    let (left, top) = (x.floor(), y.floor());
    let smooth = |share: f32| share * share * (3.0 - 2.0 * share);
    let (across, down) = (smooth(x - left), smooth(y - top));
    let corner = |dx: i64, dy: i64| at(left as i64 + dx, top as i64 + dy, seed);
    let upper = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * across;
    let lower = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * across;
    upper + (lower - upper) * down
}
