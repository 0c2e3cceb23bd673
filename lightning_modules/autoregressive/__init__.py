"""Models that tell each number from those before it: exact likelihoods, samples one number after the other."""
