//! Small symmetric systems of linear equations.

/// L of a symmetric positive definite matrix L · Lᵀ, row by row.
#[derive(Clone, Debug)]
pub(super) struct Cholesky {
    lower: Vec<f64>,
    size: usize,
}

impl Cholesky {
    pub(super) fn identity(size: usize) -> Self {
        let at = |at: usize| if at / size == at % size { 1.0 } else { 0.0 };
        let lower = (0..size * size).map(at).collect();
        Self { lower, size }
    }

    /// Row by row, as [`of`](Self::of) takes it.
    pub(super) fn into_rows(self) -> Vec<f64> {
        self.lower
    }

    /// Of a matrix whose lower half is given, row by row.
    pub(super) fn of(matrix: &[f64], size: usize) -> Self {
        let mut lower = matrix.to_vec();
        for row in 0..size {
            for column in 0..=row {
                let known =
                    (0..column).map(|at| lower[row * size + at] * lower[column * size + at]);
                let rest = lower[row * size + column] - known.sum::<f64>();
                lower[row * size + column] = match row == column {
                    // The identity is in it: only rounding could make it less.
                    true => rest.max(f64::MIN_POSITIVE).sqrt(),
                    false => rest / lower[column * size + column],
                };
            }
        }
        Self { lower, size }
    }

    /// L⁻¹ · `right`.
    pub(super) fn solved(&self, mut right: Vec<f64>) -> Vec<f64> {
        for row in 0..self.size {
            let known = (0..row).map(|at| self.lower[row * self.size + at] * right[at]);
            right[row] = (right[row] - known.sum::<f64>()) / self.lower[row * (self.size + 1)];
        }
        right
    }

    /// L⁻ᵀ · `right`: of independent normal numbers some with the inverse as covariance.
    pub(super) fn solved_transposed(&self, mut right: Vec<f64>) -> Vec<f64> {
        for row in (0..self.size).rev() {
            let known = (row + 1..self.size).map(|at| self.lower[at * self.size + row] * right[at]);
            right[row] = (right[row] - known.sum::<f64>()) / self.lower[row * (self.size + 1)];
        }
        right
    }

    /// ln of the determinant of L.
    pub(super) fn log_determinant(&self) -> f64 {
        let diagonal = (0..self.size).map(|row| self.lower[row * (self.size + 1)].ln());
        diagonal.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_solutions_together_solve_the_system() {
        // Of [[4, 2, 0], [2, 5, 1], [0, 1, 3]]; what is above the diagonal is not looked at.
        let matrix = [4.0, 9.0, 9.0, 2.0, 5.0, 9.0, 0.0, 1.0, 3.0];
        let root = Cholesky::of(&matrix, 3);
        let solved = root.solved_transposed(root.solved(vec![8.0, 15.0, 11.0]));
        for (is, should) in solved.into_iter().zip([1.0, 2.0, 3.0]) {
            assert!((is - should).abs() < 1e-12, "{is}");
        }
        // 4 (15 − 1) − 2 · 6 = 44.
        assert!((root.log_determinant() - 44f64.ln() / 2.0).abs() < 1e-12);
    }
}
