//! Levels, σ and tails from what was drawn of known ones.

use super::*;

const PRIOR: Belief = Belief::new(0.0, 0.4, 0.3);

fn sample(log_ratio: f64) -> Sample {
    let ratio = |it: f64| std::time::Duration::from_secs_f64(100.0 * it.exp());
    Sample::new(ratio(log_ratio), ratio(0.0), false).unwrap()
}

fn drawn(tail: Tail, level: f64, sigma: f64, count: u64) -> Vec<Sample> {
    let luck = |n| Draws::new(11).luck(tail, [n, 0, 0]);
    let drawn = (0..count).map(|n| sample(level + sigma * luck(n)));
    drawn.collect()
}

fn seen(zone: Option<usize>, samples: &[Sample]) -> Vec<Seen> {
    let samples = samples.iter();
    samples.map(|&sample| Seen { zone, sample }).collect()
}

fn one(samples: &[Sample], tail: Tail) -> Levels {
    Levels::given(&[PRIOR], &[seen(None, samples)], 0, tail)
}

/// Mean and deviation of what is drawn of a level.
fn spread(levels: &Levels, key: usize, zone: Option<usize>) -> (f64, f64) {
    let of = |run| levels.draw(&Draws::new(5), run).level(key, zone);
    let all: Vec<f64> = (0..4000).map(of).collect();
    let mean = all.iter().sum::<f64>() / 4000.0;
    let square = all.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / 4000.0;
    (mean, square.sqrt())
}

#[test]
fn few_samples_stay_near_the_prior_and_many_leave_it() {
    let none = one(&[], Tail::Normal);
    assert_eq!(none.level(0, None), 0.0);
    let (mean, sd) = spread(&none, 0, None);
    assert!(mean.abs() < 0.03 && (sd - 0.4).abs() < 0.03, "{mean} {sd}");
    let few = one(&[sample(0.5)], Tail::Normal).level(0, None);
    assert!(few > 0.2 && few < 0.45, "{few}");
    for tail in Tail::EACH {
        let samples = drawn(tail, 0.5, 0.3 * tail.scale(), 200);
        let many = one(&samples, tail);
        let (level, sigma) = (many.level(0, None), many.keys[0].sigma / tail.scale());
        assert!((level - 0.5).abs() < 0.1, "{tail:?}: {level}");
        assert!((sigma - 0.3).abs() < 0.06, "{tail:?}: {sigma}");
        let (mean, sd) = spread(&many, 0, None);
        assert!((mean - level).abs() < 0.01 && sd < 0.06, "{mean} {sd}");
    }
}

/// What is drawn of a level has the deviation 1/√(1/s² + n/σ²) of theory.
#[test]
fn a_level_is_as_certain_as_its_samples_make_it() {
    let levels = one(&[-0.3, -0.3, 0.3, 0.3].map(sample), Tail::Normal);
    let told: f64 = (0..4).map(|age| (1.0 - FORGETTING).powi(age)).sum();
    let square = levels.keys[0].sigma.powi(2);
    let theory = (1.0 / (1.0 / 0.16 + told / square)).sqrt();
    let (_, sd) = spread(&levels, 0, None);
    assert!((sd / theory - 1.0).abs() < 0.05, "{sd} {theory}");
}

/// Without the update all that was cut off would count as if it had ended, and no level
/// could lie beyond the deadline.
#[test]
fn censored_update_recovers_the_level_that_a_deadline_hides() {
    let cut = 0.3;
    for tail in Tail::EACH {
        let all = drawn(tail, 0.4, 0.3 * tail.scale(), 60);
        let cut_off = |is_censored: bool| {
            let cut_off = all.iter().map(|it| {
                let mut cut_off = sample(it.log_ratio.min(cut));
                cut_off.is_censored = is_censored && it.log_ratio > cut;
                cut_off
            });
            let cut_off: Vec<Sample> = cut_off.collect();
            one(&cut_off, tail).level(0, None)
        };
        let (whole, told, naive) = (
            one(&all, tail).level(0, None),
            cut_off(true),
            cut_off(false),
        );
        assert!((told - whole).abs() < 0.03, "{tail:?}: {told} {whole}");
        assert!(naive < whole - 0.08, "{tail:?}: {naive} {whole}");
    }
}

#[test]
fn tails_are_told_from_what_they_leave() {
    let evidence = |truth: Tail| {
        let samples = drawn(truth, 0.2, 0.3, 100);
        Tail::EACH.map(|tail| one(&samples, tail).evidence)
    };
    let [normal, _, two] = evidence(Tail::Normal);
    assert!(normal > two + 3.0, "{normal} {two}");
    let [normal, _, two] = evidence(Tail::Two);
    assert!(two > normal + 3.0, "{normal} {two}");
    // One in ten takes ten times as long: for a heavy tail the level is that of the others.
    let mut samples = drawn(Tail::Normal, 0.0, 0.2, 40);
    samples.extend([sample(10f64.ln()); 4]);
    let [normal, _, two] = Tail::EACH.map(|tail| one(&samples, tail).level(0, None));
    assert!(two < 0.08 && normal > 0.15, "{two} {normal}");
}

#[test]
fn a_pool_that_was_not_begun_learns_half_of_what_others_show() {
    let slow = seen(None, &[sample(0.4); 300]);
    let none = Levels::given(&[PRIOR; 2], &[vec![], vec![]], 0, Tail::Normal);
    let one = Levels::given(&[PRIOR; 2], &[slow.clone(), vec![]], 0, Tail::Normal);
    // 0.4 is one deviation, half of which is common.
    assert!((one.level(0, None) - 0.4).abs() < 0.01);
    assert!((one.level(1, None) - 0.2).abs() < 0.01);
    let (_, before) = spread(&none, 1, None);
    let (mean, sd) = spread(&one, 1, None);
    assert!((mean - 0.2).abs() < 0.03, "{mean}");
    assert!(
        (before - 0.4).abs() < 0.03 && (sd - 0.4 * 0.75f64.sqrt()).abs() < 0.02,
        "{sd}"
    );
    let many = [slow.clone(), slow.clone(), slow, vec![]];
    let many = Levels::given(&[PRIOR; 4], &many, 0, Tail::Normal);
    assert!(many.level(3, None) > 0.28 && spread(&many, 3, None).1 < 0.33);
}

#[test]
fn a_zone_that_is_slow_in_one_pool_is_slow_in_another() {
    let mut begun = seen(Some(0), &[sample(0.5); 20]);
    begun.extend(seen(Some(1), &[sample(0.0); 20]));
    begun.extend(seen(Some(2), &[sample(0.0); 20]));
    let levels = Levels::given(&[PRIOR; 2], &[begun, vec![]], 3, Tail::Normal);
    let of = |key, zone| levels.level(key, Some(zone));
    assert!((of(0, 0) - of(0, 1) - 0.5).abs() < 0.1);
    assert!((of(1, 0) - of(1, 1) - 0.5).abs() < 0.1);
    assert!((of(1, 1) - of(1, 2)).abs() < 0.01);
    assert!(of(1, 1) < levels.level(1, None) && levels.level(1, None) < of(1, 0));
}

#[test]
fn what_is_certain_tells_nothing_and_stays_so() {
    let samples = seen(Some(0), &[sample(0.5); 9]);
    let priors = [Belief::CERTAIN, PRIOR];
    for tail in Tail::EACH {
        let levels = Levels::given(&priors, &[samples.clone(), vec![]], 2, tail);
        assert_eq!(
            [levels.level(0, Some(0)), levels.level(1, Some(0))],
            [0.0; 2]
        );
        let drawn = levels.draw(&Draws::new(1), 3);
        assert_eq!((drawn.level(0, Some(0)), drawn.sigma(0)), (0.0, 0.0));
        assert_ne!(drawn.level(1, Some(0)), 0.0);
    }
}
