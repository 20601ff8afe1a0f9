"""CV beside leaderboard scores, submission by submission."""
