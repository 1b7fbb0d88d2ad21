"""The student: features and soft labels -> a small network -> a bundle. Meets the teacher in label files alone."""
