"""What all tests share."""

from hypothesis import settings

# A busy machine is no fault of the code: durations are printed, not judged.
settings.register_profile("shoplens", deadline=None)
settings.load_profile("shoplens")
