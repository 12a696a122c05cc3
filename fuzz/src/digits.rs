//! A number as Go's `encoding/json` writes it, by trying.

/// `None`: JSON has no such number.
#[must_use]
pub fn go(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let number = number.abs();
    if number == 0.0 {
        return Some(format!("{sign}0"));
    }
    let (digits, exponent) = shortest(number);
    let len = digits.len() as i32;
    let text = if !(1e-6..1e21).contains(&number) {
        let point = if len > 1 { "." } else { "" };
        let plus = if exponent > 0 { "+" } else { "" };
        format!("{}{point}{}e{plus}{exponent}", &digits[..1], &digits[1..])
    } else if exponent < 0 {
        format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize))
    } else if exponent + 1 >= len {
        format!("{digits}{}", "0".repeat((exponent + 1 - len) as usize))
    } else {
        let (whole, fraction) = digits.split_at((exponent + 1) as usize);
        format!("{whole}.{fraction}")
    };
    Some(sign.to_owned() + &text)
}

/// The fewest digits that read back as this positive number, and the exponent of the first. Of several the nearest,
/// and of two that are as near the even one.
fn shortest(number: f64) -> (String, i32) {
    // No float has more digits than 767 that are not zero.
    let exact = format!("{number:.780e}");
    let (mantissa, exponent) = exact.split_once('e').expect("it was asked for");
    let exponent: i32 = exponent.parse().expect("it is short");
    let exact: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    for count in 1..=17 {
        let (below, rest) = exact.split_at(count);
        let below: u64 = below.parse().expect("17 digits fit");
        let exponent_of_last = exponent - (count as i32 - 1);
        let reads_back = |digits: &u64| {
            let text = format!("{digits}e{exponent_of_last}");
            text.parse::<f64>().expect("a number") == number
        };
        let half = "5".to_owned() + &"0".repeat(rest.len() - 1);
        let nearer_above = match rest.cmp(half.as_str()) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => below % 2 == 1,
            std::cmp::Ordering::Greater => true,
        };
        let order = if nearer_above {
            [below + 1, below]
        } else {
            [below, below + 1]
        };
        if let Some(digits) = order.iter().find(|digits| reads_back(digits)) {
            let text = digits.to_string();
            let carried = text.len() - count;
            let text = text.trim_end_matches('0').to_owned();
            return (text, exponent + carried as i32);
        }
    }
    unreachable!("17 digits are enough for any float")
}
