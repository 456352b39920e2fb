//! The colour space of a picture, in each way that a file may state it.

use moxcms::{
    Chromaticity, CicpProfile, ColorPrimaries, ColorProfile, MatrixCoefficients, ToneReprCurve,
    TransferCharacteristics,
};

/// The longest profile that is read, in bytes. Print profiles have about a quarter of this length.
const LONGEST_PROFILE: usize = 4 * 1024 * 1024;
/// PNG stores chromaticities and the exponent of the file in units of 1/100,000.
const UNIT: f32 = 100_000.0;

/// The colour space from an ICC profile; `None` if the profile cannot be read.
pub(super) fn of_icc(profile: &[u8]) -> Option<ColorProfile> {
    let is_short = profile.len() <= LONGEST_PROFILE;
    is_short.then(|| ColorProfile::new_from_slice(profile).ok()).flatten()
}

/// The colour space from coding-independent code points (ITU-T H.273) of full range. `None` if no RGB picture
/// can have them. Also `None` for HDR (PQ, HLG), which does not define its look on other screens.
pub(super) fn of_cicp(code_points: &[u8]) -> Option<ColorProfile> {
    let &[primaries, transfer, 0, 1] = code_points else { return None };
    let color_primaries = primaries.try_into().ok()?;
    let transfer_characteristics = transfer.try_into().ok()?;
    if matches!(
        transfer_characteristics,
        TransferCharacteristics::Smpte2084 | TransferCharacteristics::Hlg
    ) {
        return None;
    }
    let mut profile = ColorProfile::new_srgb();
    profile.red_trc = None;
    profile.update_rgb_colorimetry_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    profile.red_trc.is_some().then_some(profile)
}

/// The colour space from the PNG chunks gAMA and cHRM. Without cHRM, the primaries are those of sRGB.
pub(super) fn of_gamma(gamma: &[u8], chromaticities: Option<&[u8]>) -> Option<ColorProfile> {
    let &[exponent] = numbers(gamma).as_slice() else { return None };
    if exponent <= 0.0 {
        return None;
    }
    let mut profile = ColorProfile::new_srgb();
    if let Some(chromaticities) = chromaticities {
        let numbers = numbers(chromaticities);
        let (points, _) = numbers.as_chunks();
        let &[white, red, green, blue] = points else { return None };
        let [white, red, green, blue] =
            [white, red, green, blue].map(|[x, y]| Chromaticity::new(x, y));
        profile.update_rgb_colorimetry(white.to_xyyb(), ColorPrimaries { red, green, blue });
    }
    let curve = ToneReprCurve::Parametric(vec![1.0 / exponent]);
    profile.red_trc = Some(curve.clone());
    profile.green_trc = Some(curve.clone());
    profile.blue_trc = Some(curve);
    profile.cicp = None;
    // Three primaries on one line span no colours.
    let colorants = [profile.red_colorant, profile.green_colorant, profile.blue_colorant];
    let is_finite =
        colorants.iter().all(|xyz| xyz.x.is_finite() && xyz.y.is_finite() && xyz.z.is_finite());
    is_finite.then_some(profile)
}

/// The colour space of photos from cameras that mark it as DCF 2.0 requires and embed no profile.
pub(super) fn adobe_rgb() -> ColorProfile {
    ColorProfile::new_adobe_rgb()
}

#[expect(clippy::cast_precision_loss, reason = "six digits are enough")]
fn numbers(chunk: &[u8]) -> Vec<f32> {
    chunk.as_chunks().0.iter().map(|&number| u32::from_be_bytes(number) as f32 / UNIT).collect()
}
