"""CV beside the leaderboard, submission by submission."""
