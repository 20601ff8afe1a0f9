"""Many candidates: samples them, runs their folds on Ray, stops what will not help the ensemble."""
