"""What a run is; a notebook begins with its `Study`."""

from aacstudy.study.parameters import Study as Study
