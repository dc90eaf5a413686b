"""What the user brought: tables, panels, patients and their images, folds."""
